package evictplan

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"pgregory.net/rapid"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// thresholds are upstream's, and a soft one.
func thresholds(t testing.TB) []Threshold {
	t.Helper()
	all, err := Parse(Statements{
		Hard: DefaultHard(), Soft: map[string]string{"memory.available": "1Gi", "pid.available": "10%"},
		SoftGrace: map[string]string{"memory.available": "1m", "pid.available": "0s"}, MinReclaim: map[string]string{"nodefs.available": "1Gi", "memory.available": "50Mi"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

const gi = 1 << 30

// healthy has enough of everything.
func healthy(t testing.TB) Facts {
	return Facts{
		Now: noon, Thresholds: thresholds(t), Transition: 5 * time.Minute, MaxGrace: 20 * time.Second, Full: true,
		Observations: map[Signal]Observation{
			MemoryAvailable: {4 * gi, 8 * gi}, AllocatableMemoryAvailable: {6 * gi, 7 * gi},
			NodeFsAvailable: {50 * gi, 100 * gi}, NodeFsInodesFree: {900, 1000},
			ImageFsAvailable: {50 * gi, 100 * gi}, ImageFsInodesFree: {900, 1000}, PIDAvailable: {900, 1000},
		},
		Pods: []Pod{
			pod("small", 0, "1Gi", 100<<20), pod("greedy", 0, "100Mi", 500<<20), pod("greedier", 0, "", 600<<20),
			pod("important", 1000, "100Mi", 2<<30), pod("system", systemCritical, "", 3<<30),
		},
	}
}

func pod(name string, prio int32, memory string, used uint64) Pod {
	p := &corev1.Pod{}
	p.Namespace, p.Name, p.Spec.Priority = "ns", name, &prio
	c := corev1.Container{Name: "c"}
	if memory != "" {
		c.Resources.Requests = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(memory)}
	}
	p.Spec.Containers = []corev1.Container{c}
	return Pod{Pod: p, Known: true, Memory: used, Tasks: used >> 20, EphemeralKnown: true, Containers: []Container{{Name: "c", Memory: used}}}
}

func (f *Facts) observe(s Signal, available uint64) {
	o := f.Observations[s]
	o.Available = available
	f.Observations[s] = o
}

func want(t *testing.T, f *Facts, what, text string) Plan {
	t.Helper()
	p := Make(*f)
	f.State = p.State
	if got := strings.TrimSpace(p.String()); got != text {
		t.Errorf("%s:\n got %s\nwant %s", what, got, text)
	}
	return p
}

func TestHardMemory(t *testing.T) {
	f := healthy(t)
	want(t, &f, "healthy", "conditions []")
	f.observe(MemoryAvailable, 99<<20)
	f.Full = false
	want(t, &f, "pods must be measured first", "conditions [MemoryPressure] measure-pods")
	f.Full = true
	// Of those above their requests the one of least priority that is furthest above.
	const message = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 99Mi. "
	want(t, &f, "hard", "conditions [MemoryPressure] starved memory\nevict ns/greedier by memory.available grace 1s: "+message+
		"Container c was using 600Mi, request is 0, has larger consumption of memory.")
	f.Going = true
	want(t, &f, "while it goes", "conditions [MemoryPressure] starved memory")
	f.Going = false
	f.Pods = append(f.Pods[:2], f.Pods[3:]...)
	f.observe(MemoryAvailable, 149<<20)
	want(t, &f, "less free than the threshold and the reclaim", "conditions [MemoryPressure] starved memory\nevict ns/greedy by memory.available grace 1s: "+
		strings.Replace(message, "99Mi", "149Mi", 1)+"Container c was using 500Mi, request is 100Mi, has larger consumption of memory.")
	f.observe(MemoryAvailable, 4*gi)
	want(t, &f, "over", "conditions [MemoryPressure]")
	f.Now = f.Now.Add(5*time.Minute - time.Second)
	want(t, &f, "not yet five minutes over", "conditions [MemoryPressure]")
	f.Now = f.Now.Add(time.Second)
	want(t, &f, "five minutes over", "conditions []")
}

func TestSoft(t *testing.T) {
	f := healthy(t)
	f.observe(MemoryAvailable, 900<<20)
	want(t, &f, "begins", "conditions [MemoryPressure]")
	f.Now = f.Now.Add(59 * time.Second)
	want(t, &f, "within grace", "conditions [MemoryPressure]")
	f.observe(MemoryAvailable, 4*gi)
	want(t, &f, "recovers", "conditions [MemoryPressure]")
	f.observe(MemoryAvailable, 900<<20)
	f.Now = f.Now.Add(30 * time.Second)
	want(t, &f, "begins anew", "conditions [MemoryPressure]")
	f.Now = f.Now.Add(time.Minute)
	p := want(t, &f, "grace is over", "conditions [MemoryPressure] starved memory\nevict ns/greedier by memory.available grace 20s: "+
		"The node was low on resource: memory. Threshold quantity: 1Gi, available: 900Mi. Container c was using 600Mi, request is 0, has larger consumption of memory.")
	own := int64(7)
	p.Evict[0].Pod.Spec.TerminationGracePeriodSeconds = &own
	if p := Make(f); p.Evict[0].Grace != 7*time.Second {
		t.Errorf("grace %s, want the pod's own", p.Evict[0].Grace)
	}
}

func TestDisk(t *testing.T) {
	f := healthy(t)
	f.Pods[0].Local = Used{Bytes: 3 * gi, Inodes: 10}
	f.Pods[1].Containers[0].Rootfs = Used{Bytes: 2 * gi, Inodes: 500}
	f.Pods[1].Pod.Spec.Containers[0].Resources.Requests[corev1.ResourceEphemeralStorage] = resource.MustParse("5Gi")
	f.observe(NodeFsAvailable, 9*gi)
	want(t, &f, "images first", "conditions [DiskPressure] starved ephemeral-storage reclaim-images")
	f.Reclaimed = true
	f.observe(NodeFsAvailable, 10*gi+gi/2)
	want(t, &f, "not enough reclaimed", "conditions [DiskPressure] starved ephemeral-storage\nevict ns/small by nodefs.available grace 1s: "+
		"The node was low on resource: ephemeral-storage. Threshold quantity: 10Gi, available: 10752Mi.")
	f.observe(NodeFsAvailable, 12*gi)
	want(t, &f, "enough reclaimed", "conditions [DiskPressure]")
	f = healthy(t)
	f.Layout.ImageFs = true
	f.Pods[2].Local = Used{Bytes: 1, Inodes: 70}
	f.Pods[1].Containers[0].Rootfs = Used{Bytes: 2 * gi, Inodes: 500}
	f.observe(NodeFsInodesFree, 40)
	want(t, &f, "inodes of volumes, images are elsewhere", "conditions [DiskPressure] starved inodes\nevict ns/greedier by nodefs.inodesFree grace 1s: "+
		"The node was low on resource: inodes. Threshold quantity: 50, available: 40.")
	f = healthy(t)
	f.observe(PIDAvailable, 99)
	want(t, &f, "tasks, by priority first", "conditions [PIDPressure] starved pids\nevict ns/greedier by pid.available grace 20s: "+
		"The node was low on resource: pids. Threshold quantity: 100, available: 99.")
}

// Memory is more urgent than disks, and nobody is evicted whom the system needs.
func TestUrgencyAndCritical(t *testing.T) {
	f := healthy(t)
	f.observe(MemoryAvailable, 0)
	f.observe(NodeFsAvailable, 0)
	if p := Make(f); p.Starved != corev1.ResourceMemory || len(p.Evict) != 1 {
		t.Errorf("%s", p)
	}
	static, mirror := pod("static", 0, "", 9*gi), pod("mirror", 0, "", 9*gi)
	static.Pod.Annotations = map[string]string{"kubernetes.io/config.source": "file"}
	mirror.Pod.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
	f.Pods = []Pod{static, mirror, f.Pods[4]}
	if p := Make(f); len(p.Evict) != 0 {
		t.Errorf("%s", p)
	}
}

func TestLimits(t *testing.T) {
	f := healthy(t)
	limit := resource.MustParse("1Mi")
	vol := pod("vol", 0, "", 0)
	vol.Pod.Spec.Volumes = []corev1.Volume{{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &limit}}}}
	sum, one := pod("sum", 0, "", 0), pod("one", 0, "", 0)
	for _, p := range []Pod{sum, one} {
		p.Pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceEphemeralStorage: limit}
	}
	f.Pods = []Pod{vol, sum, one}
	f.Full = false
	want(t, &f, "limits need a measurement", "conditions [] measure-pods")
	f.Full = true
	want(t, &f, "within", "conditions []")
	f.Pods[0].Volumes = map[string]Used{"tmp": {Bytes: 2 << 20}}
	f.Pods[1].Ephemeral = 2 << 20
	f.Pods[2].Containers[0].Logs = Used{Bytes: 1 << 19}
	f.Pods[2].Containers[0].Rootfs = Used{Bytes: 1<<19 + 1}
	p := want(t, &f, "beyond", `conditions []
evict ns/vol by emptydirfs.limit grace 1s: Usage of EmptyDir volume "tmp" exceeds the limit "1Mi". 
evict ns/sum by ephemeralpodfs.limit grace 1s: Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. 
evict ns/one by ephemeralcontainerfs.limit grace 1s: Container c exceeded its local ephemeral storage limit "1Mi".`)
	if p.Evict[0].Pressure {
		t.Error("breaking a limit is no pressure")
	}
	f.Layout.ImageFs = true // then writable layers are not on the node's file system
	f.Pods = f.Pods[2:]
	want(t, &f, "layers elsewhere", "conditions []")
}

func TestParse(t *testing.T) {
	all := thresholds(t)
	if got := fmt.Sprint(all); got != "[imagefs.available<15% imagefs.inodesFree<5% memory.available<104857600 nodefs.available<10% nodefs.inodesFree<5% "+
		"memory.available<1073741824 for 1m0s pid.available<10% for 0s allocatableMemory.available<104857600]" {
		t.Errorf("%s", got)
	}
	if got, err := Parse(Statements{Hard: map[string]string{"memory.available": "0%", "nodefs.available": "100%"}}); err != nil || len(got) != 0 {
		t.Errorf("switched off: %v %v", got, err)
	}
	for _, s := range []Statements{
		{Hard: map[string]string{"memory.available": "-1"}}, {Hard: map[string]string{"memory.available": "101%"}}, {Hard: map[string]string{"memory.available": "x%"}},
		{Hard: map[string]string{"memory": "1Gi"}}, {Hard: map[string]string{"allocatableMemory.available": "1Gi"}},
		{Soft: map[string]string{"memory.available": "1Gi"}}, {MinReclaim: map[string]string{"x": "1"}},
		{Soft: map[string]string{"memory.available": "1Gi"}, SoftGrace: map[string]string{"memory.available": "-1s"}},
		{Hard: map[string]string{"memory.available": "NaN%"}},
	} {
		if got, err := Parse(s); err == nil {
			t.Errorf("%+v was read as %v", s, got)
		}
	}
}

// A big disk with gigabytes free is not short of space by default, a small one is as upstream; and who
// says a share gets it.
func TestDefaultsOfBigDisks(t *testing.T) {
	short := func(s Statements, o Observation) bool {
		all, err := Complete(s)
		if err != nil {
			t.Fatal(err)
		}
		return len(Make(Facts{Now: noon, Thresholds: all, Observations: map[Signal]Observation{NodeFsAvailable: o}}).Conditions) > 0
	}
	said := Statements{Hard: map[string]string{string(NodeFsAvailable): "10%"}}
	for _, test := range []struct {
		s    Statements
		o    Observation
		want bool
	}{
		{Statements{}, Observation{3 * gi, 1000 * gi}, false}, {Statements{}, Observation{2*gi - 1, 1000 * gi}, true},
		{Statements{}, Observation{gi, 11 * gi}, true}, {Statements{}, Observation{gi, 9 * gi}, false}, {said, Observation{3 * gi, 1000 * gi}, true},
	} {
		if got := short(test.s, test.o); got != test.want {
			t.Errorf("%+v of %+v: %t", test.o, test.s, got)
		}
	}
}

// What is said goes before the defaults; the others are there only where they are to be merged in.
func TestDefaultsAreMerged(t *testing.T) {
	said := map[string]string{string(MemoryAvailable): "1Gi"}
	count := func(s Statements) (names int, memory string) {
		all, err := Complete(s)
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range all {
			names++
			if one.Signal == MemoryAvailable {
				memory = fmt.Sprint(one.Value.Of(8 * gi))
			}
		}
		return names, memory
	}
	defaults, _ := count(Statements{})
	if n, m := count(Statements{Hard: said, MergeDefaults: true}); n != defaults || m != fmt.Sprint(gi) {
		t.Errorf("merged: %d of %d thresholds, memory %s", n, defaults, m)
	}
	if n, _ := count(Statements{Hard: said}); n >= defaults {
		t.Errorf("not merged: %d thresholds", n)
	}
	if n, _ := count(Statements{Hard: map[string]string{}, MergeDefaults: true}); n != defaults {
		t.Errorf("nothing said: %d of %d thresholds", n, defaults)
	}
	if len(said) != 1 {
		t.Errorf("what was said has changed: %v", said)
	}
}

// Whatever is measured, at most one pod goes for pressure, never a critical one, and the same facts
// give the same plan.
func TestLaws(t *testing.T) {
	base := healthy(t)
	rapid.Check(t, func(t *rapid.T) {
		f := base
		f.Observations = map[Signal]Observation{}
		for s, o := range base.Observations {
			if rapid.Bool().Draw(t, "known") {
				f.Observations[s] = Observation{rapid.Uint64Range(0, o.Capacity).Draw(t, string(s)), o.Capacity}
			}
		}
		for range 4 {
			f.Now = f.Now.Add(time.Duration(rapid.IntRange(0, 120).Draw(t, "later")) * time.Second)
			f.Full, f.Going, f.Reclaimed = rapid.Bool().Draw(t, "full"), rapid.Bool().Draw(t, "going"), rapid.Bool().Draw(t, "reclaimed")
			p := Make(f)
			if again := Make(f); again.String() != p.String() {
				t.Fatalf("%s, then %s", p, again)
			}
			if len(p.Evict) > 1 || f.Going && len(p.Evict) > 0 || p.Reclaim && (f.Reclaimed || len(p.Evict) > 0) || p.Need && (f.Full || len(p.Evict) > 0) {
				t.Fatalf("%+v: %s", f, p)
			}
			for _, e := range p.Evict {
				if critical(e.Pod) {
					t.Fatalf("critical: %s", p)
				}
			}
			if len(p.State.Since) > 0 && len(p.Conditions) == 0 {
				t.Fatalf("a threshold without a condition: %s", p)
			}
			f.State = p.State
		}
	})
}
