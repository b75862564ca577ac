package admission

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"nodelet/internal/golden"
	"nodelet/internal/model"
	"nodelet/internal/podref"
	"nodelet/internal/store"
)

// world is the facts section of a case. Pods that are taken have an allocation
// of what they ask for, but for the new ones; resources that differ are given.
type world struct {
	Node Node
	Pods []corev1.Pod
	// New are pods that the node has not decided about.
	New []corev1.Pod
	// Had are the resources that pods were granted before they asked for others, by UID and container.
	Had map[model.UID]map[string]corev1.ResourceRequirements
	// Pending resizes, by UID; Gone are rows of pods that are no more.
	Pending map[model.UID]model.PendingResize
	Gone    []model.UID
	// Running are the pods that the runtime has a sandbox of; Users are the ids of those with user namespaces.
	Running []model.UID
	Users   map[model.UID]uint32
}

func (w *world) snapshot() *store.Snapshot {
	s, tables := store.New()
	pods, rows := map[model.UID]*corev1.Pod{}, map[model.UID]*model.Allocation{}
	for i := range w.Pods {
		pod := &w.Pods[i]
		uid := model.UID(pod.UID)
		pods[uid], rows[uid] = pod, grant(pod)
		for name, r := range w.Had[uid] {
			rows[uid].Containers[name] = r
			rows[uid].Generation = pod.Generation - 1
		}
		if p, ok := w.Pending[uid]; ok {
			rows[uid].Pending = &p
		}
	}
	for i := range w.New {
		pods[model.UID(w.New[i].UID)] = &w.New[i]
	}
	for _, uid := range w.Gone {
		rows[uid] = &model.Allocation{UID: uid}
	}
	runtime := map[model.UID]*model.PodRuntime{}
	for _, uid := range w.Running {
		runtime[uid] = &model.PodRuntime{UID: uid, Sandboxes: []model.Sandbox{{ID: "sb", UserNS: w.Users[uid]}}}
	}
	tables.Runtime.Replace(runtime)
	tables.Allocations.Replace(rows)
	tables.Pods.Replace(pods)
	return s.Snapshot()
}

func TestCases(t *testing.T) {
	golden.Run(t, "testdata/*.txtar", func(c *golden.Case) {
		var w world
		if err := yaml.UnmarshalStrict([]byte(c.Section("facts")), &w); err != nil {
			c.Fatal(err)
		}
		c.Want("want", Decide(w.snapshot(), w.Node).String())
	})
}

// TestNeverTooMuch: whatever comes in which order, the pods that the node has
// never ask for more than it can give, and nobody who was taken is turned away for a pod that is not critical.
func TestNeverTooMuch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, tables := store.New()
		tables.Runtime.Replace(nil)
		node := Node{Allocatable: list(1000, 1000)}
		pods := map[model.UID]*corev1.Pod{}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			drawStep(t, pods)
			tables.Pods.Replace(pods)
			before := s.Snapshot()
			d := Decide(before, node)
			tables.Allocations.Commit(func(tx *store.Tx[model.UID, *model.Allocation]) {
				for _, row := range d.Rows {
					tx.Set(row.UID, row)
				}
				for _, uid := range d.Gone {
					tx.Delete(uid)
				}
			})
			checkStep(t, before, s.Snapshot())
			if again := Decide(s.Snapshot(), node); len(again.Rows)+len(again.Gone) > 0 {
				t.Fatalf("decided again:\n%s", again)
			}
		}
	})
}

func drawStep(t *rapid.T, pods map[model.UID]*corev1.Pod) {
	uid := model.UID(rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}).Draw(t, "uid"))
	r := list(rapid.Int64Range(0, 900).Draw(t, "cpu"), rapid.Int64Range(0, 900).Draw(t, "memory"))
	old := pods[uid]
	switch {
	case old == nil:
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid), Generation: 1, CreationTimestamp: metav1.NewTime(time.Unix(int64(len(pods)), 0))}}
		pod.Spec.Containers = []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: r}}}
		if rapid.IntRange(0, 4).Draw(t, "critical") == 0 {
			priority := int32(2_000_000_000)
			pod.Spec.Priority = &priority
		}
		pods[uid] = pod
	case rapid.Bool().Draw(t, "resize"):
		pod := old.DeepCopy()
		pod.Generation++
		pod.Spec.Containers[0].Resources.Requests = r
		pods[uid] = pod
	default:
		delete(pods, uid)
	}
}

func checkStep(t *rapid.T, before, after *store.Snapshot) {
	var cpu, memory int64
	for uid, row := range after.Allocations.All() {
		pod, ok := after.Pods.Get(uid)
		if !ok || row.Rejected {
			continue
		}
		requests := podref.Requests(Granted(pod, row))
		cpu += requests.Cpu().MilliValue()
		memory += requests.Memory().Value()
		was, known := before.Allocations.Get(uid)
		if known && was.Rejected {
			t.Errorf("%s was rejected and is taken", uid)
		}
	}
	if cpu > 1000 || memory > 1000 {
		t.Errorf("%d millicores and %d bytes of 1000 are given away", cpu, memory)
	}
	for uid := range after.Pods.All() {
		if _, ok := after.Allocations.Get(uid); !ok {
			t.Errorf("%s was not decided about", uid)
		}
		was, known := before.Allocations.Get(uid)
		row, _ := after.Allocations.Get(uid)
		if known && !was.Rejected && row.Rejected && !row.Preempted {
			t.Errorf("%s was taken and is rejected", uid)
		}
	}
}

func list(milli, bytes int64) corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU: *resource.NewMilliQuantity(milli, resource.DecimalSI), corev1.ResourceMemory: *resource.NewQuantity(bytes, resource.BinarySI),
	}
}
