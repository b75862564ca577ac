package exclusive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"nodelet/agent/exclusive/cpuplan"
	"nodelet/agent/exclusive/plugintest"
	"nodelet/internal/keep/keeptest"
	"nodelet/internal/model"
	"nodelet/internal/store"
)

const gpu = "vendor.com/gpu"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a node with plugins.
type world struct {
	t       *testing.T
	dir     string
	store   *store.Store
	w       *store.Writers
	m       *Manager
	cpus    *CPUs
	align   Align
	stop    func()
	grants  keeptest.Memory[model.Grant]
	plugins keeptest.Memory[KeptPlugin]

	mu     sync.Mutex
	events []string
	sets   map[string]string // CPU sets of containers, by id
}

func newWorld(t *testing.T, cpus *CPUs) *world {
	dir, err := os.MkdirTemp("", "dp") //nolint:usetesting // its long names would overflow the limit of unix socket paths
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: dir, cpus: cpus, sets: map[string]string{}}
	w.boot()
	t.Cleanup(func() {
		w.stop()
		_ = os.RemoveAll(dir)
	})
	return w
}

// boot starts a daemon that has nothing but what was kept; pods are those of the API.
func (w *world) boot() {
	s, writers := store.New()
	if w.store != nil {
		old := w.store.Snapshot()
		pods, allocations := map[model.UID]*corev1.Pod{}, map[model.UID]*model.Allocation{}
		for uid, p := range old.Pods.All() {
			pods[uid], allocations[uid] = p, &model.Allocation{UID: uid}
		}
		writers.Pods.Replace(pods)
		writers.Allocations.Replace(allocations)
	} else {
		writers.Pods.Replace(nil)
	}
	writers.Runtime.Replace(nil)
	w.store, w.w = s, writers
	w.m = New(Config{Dir: w.dir, CPUs: w.cpus, Align: w.align}, Deps{
		Store: s, Grants: writers.Grants, Runtime: w, Events: w,
		KeepGrants: &w.grants, GrantsBefore: w.grants.All(), KeepPlugins: &w.plugins, PluginsBefore: w.plugins.All(),
		Log: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.m.Run(ctx) }()
	w.stop = func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	}
}

func (w *world) Event(_ corev1.ObjectReference, _, reason, message string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, reason+": "+message)
}

func (w *world) UpdateContainerResources(_ context.Context, q *runtimev1.UpdateContainerResourcesRequest) (*runtimev1.UpdateContainerResourcesResponse, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sets[q.ContainerId] = q.Linux.CpusetCpus
	return &runtimev1.UpdateContainerResourcesResponse{}, nil
}

// plugin starts a plugin with these devices and registers it.
func (w *world) plugin(p *plugintest.Plugin, devices ...string) *plugintest.Plugin {
	w.t.Helper()
	if p.Resource == "" {
		p.Resource = gpu
	}
	if err := p.Start(w.dir, devices...); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(p.Stop)
	w.register(p)
	return p
}

func (w *world) register(p *plugintest.Plugin) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := p.Register(ctx, pluginapi.Version); err != nil {
		w.t.Fatal(err)
	}
}

// pod puts a pod onto the node; asks are container=amount of the resource or of CPUs, init containers first with a leading !.
func (w *world) pod(name string, of corev1.ResourceName, asks ...string) {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name), ResourceVersion: "1"}}
	for _, a := range asks {
		ctr, amount, _ := strings.Cut(a, "=")
		list := corev1.ResourceList{of: resource.MustParse(amount), corev1.ResourceMemory: resource.MustParse("1Mi")}
		if of != corev1.ResourceCPU {
			list[corev1.ResourceCPU] = resource.MustParse("500m")
		}
		c := corev1.Container{Name: strings.TrimPrefix(ctr, "!"), Resources: corev1.ResourceRequirements{Limits: list, Requests: list}}
		if strings.HasPrefix(ctr, "!") {
			p.Spec.InitContainers = append(p.Spec.InitContainers, c)
		} else {
			p.Spec.Containers = append(p.Spec.Containers, c)
		}
	}
	w.change(name, p)
	w.w.Allocations.Set(model.UID(name), &model.Allocation{UID: model.UID(name)})
}

func (w *world) change(name string, p *corev1.Pod) {
	w.w.Pods.Commit(func(tx *store.Tx[model.UID, *corev1.Pod]) {
		if p == nil {
			tx.Delete(model.UID(name))
		} else {
			tx.Set(model.UID(name), p)
		}
	})
}

// grant waits for what a pod is given.
func (w *world) grant(name string) string {
	w.t.Helper()
	var row *model.Grant
	w.await("a grant for "+name, func() (ok bool) {
		row, ok = w.store.Snapshot().Grants.Get(model.UID(name))
		return ok
	})
	return strings.TrimPrefix(strings.TrimPrefix(row.String(), name), "; ")
}

func (w *world) await(what string, is func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("no %s; resources %v", what, w.m.Resources())
		}
	}
}

func (w *world) has(want string) {
	w.t.Helper()
	w.await("resources "+want, func() bool { return fmt.Sprint(w.m.Resources()) == want })
}

func expect(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestDevices(t *testing.T) {
	w := newWorld(t, nil)
	p := w.plugin(&plugintest.Plugin{}, "a", "b", "c")
	w.has("[{vendor.com/gpu 3 3}]")
	w.pod("one", gpu, "x=1", "y=1")
	expect(t, w.grant("one"), "x vendor.com/gpu=a; y vendor.com/gpu=b")
	expect(t, p.Calls(), "allocate a; allocate b")
	w.pod("two", gpu, "x=2")
	expect(t, w.grant("two"), " rejected: UnexpectedAdmissionError: Pod was rejected: Allocate failed due to requested number of devices unavailable for vendor.com/gpu. Requested: 2, Available: 1, which is unexpected")
	w.pod("other", "other.com/x", "x=1") // no plugin ever had it: it is an administrator's
	expect(t, w.grant("other"), "")
	w.change("one", nil)
	w.await("release", func() bool { _, ok := w.store.Snapshot().Grants.Get("one"); return !ok })
	w.pod("three", gpu, "!i=2", "x=1", "y=1")
	expect(t, w.grant("three"), "i vendor.com/gpu=a,b; x vendor.com/gpu=a; y vendor.com/gpu=b")
	p.Set([]string{"a"}, []string{"b", "c"})
	w.has("[{vendor.com/gpu 3 1}]")
	w.pod("four", gpu, "x=1")
	if got := w.grant("four"); !strings.Contains(got, "Requested: 1, Available: 0") {
		t.Error(got)
	}
}

// TestPodsOnTheirWayOut: what is missing may come back in a moment, so nobody is rejected for it.
func TestPodsOnTheirWayOut(t *testing.T) {
	w := newWorld(t, nil)
	w.plugin(&plugintest.Plugin{}, "a")
	w.has("[{vendor.com/gpu 1 1}]")
	w.pod("one", gpu, "x=1")
	expect(t, w.grant("one"), "x vendor.com/gpu=a")
	w.w.Runtime.Set("one", &model.PodRuntime{UID: "one", Containers: []model.Container{{ID: "c", Name: "x", State: model.ContainerRunning}}})
	w.change("one", nil) // deleted with grace 0: its container still runs
	w.pod("two", gpu, "x=1")
	time.Sleep(1500 * time.Millisecond)
	if row, ok := w.store.Snapshot().Grants.Get("two"); ok {
		t.Errorf("decided already: %s", row)
	}
	w.w.Runtime.Delete("one")
	expect(t, w.grant("two"), "x vendor.com/gpu=a")
}

func TestPreferenceAndPreparation(t *testing.T) {
	w := newWorld(t, nil)
	fail := errors.New("not today")
	p := w.plugin(&plugintest.Plugin{
		Options: &pluginapi.DevicePluginOptions{GetPreferredAllocationAvailable: true, PreStartRequired: true},
		OnPrefer: func(context.Context, *pluginapi.ContainerPreferredAllocationRequest) ([]string, error) {
			return []string{"c", "gone"}, nil
		},
		OnPreStart: func(context.Context, []string) error {
			err := fail
			fail = nil
			return err
		},
	}, "a", "b", "c")
	w.has("[{vendor.com/gpu 3 3}]")
	w.pod("one", gpu, "x=2")
	expect(t, w.grant("one"), "x vendor.com/gpu=a,c")
	if err := w.m.PreStart(t.Context(), "one", "x"); err == nil || !strings.Contains(err.Error(), "not today") {
		t.Errorf("%v", err)
	}
	if err := w.m.PreStart(t.Context(), "one", "x"); err != nil {
		t.Error(err)
	}
	if err := w.m.PreStart(t.Context(), "one", "other"); err != nil {
		t.Error(err)
	}
	expect(t, p.Calls(), "prefer 2 of a b c; allocate a c; prepare a c; prepare a c")
}

// TestPluginsThatLie: each wrong answer rejects the pod that asked, and costs no device.
func TestPluginsThatLie(t *testing.T) {
	w := newWorld(t, nil)
	var answer *pluginapi.ContainerAllocateResponse
	var problem error
	var mu sync.Mutex
	p := w.plugin(&plugintest.Plugin{OnAllocate: func(context.Context, []string) (*pluginapi.ContainerAllocateResponse, error) {
		mu.Lock()
		defer mu.Unlock()
		return answer, problem
	}}, "a", "")
	w.has("[{vendor.com/gpu 1 1}]")
	for i, c := range []struct {
		answer *pluginapi.ContainerAllocateResponse
		err    error
		want   string
	}{
		{err: errors.New("broken"), want: "broken"},
		{want: "answers for 0 containers"},
		{answer: &pluginapi.ContainerAllocateResponse{Mounts: []*pluginapi.Mount{{HostPath: "../etc", ContainerPath: "/x"}}}, want: "absolute paths"},
		{answer: &pluginapi.ContainerAllocateResponse{Devices: []*pluginapi.DeviceSpec{{HostPath: "/dev/null", ContainerPath: "/x", Permissions: "rwx"}}}, want: "permissions"},
		{answer: &pluginapi.ContainerAllocateResponse{Envs: map[string]string{"A=B": "c"}}, want: "environment variable"},
		{answer: &pluginapi.ContainerAllocateResponse{CdiDevices: []*pluginapi.CDIDevice{{}}}, want: "CDI"},
	} {
		mu.Lock()
		answer, problem = c.answer, c.err
		mu.Unlock()
		name := fmt.Sprint("liar", i)
		w.pod(name, gpu, "x=1")
		if got := w.grant(name); !strings.Contains(got, "rejected: UnexpectedAdmissionError") || !strings.Contains(got, c.want) {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
	mu.Lock()
	answer, problem = &pluginapi.ContainerAllocateResponse{}, nil
	mu.Unlock()
	w.pod("good", gpu, "x=1")
	expect(t, w.grant("good"), "x vendor.com/gpu=a")
	p.Calls()
}

// TestOneThatHangsDelaysOnlyItsOwnPods.
func TestOneThatHangsDelaysOnlyItsOwnPods(t *testing.T) {
	w := newWorld(t, nil)
	entered := make(chan struct{})
	w.plugin(&plugintest.Plugin{Resource: "slow.com/x", OnAllocate: func(ctx context.Context, _ []string) (*pluginapi.ContainerAllocateResponse, error) {
		close(entered)
		<-ctx.Done()
		return nil, ctx.Err()
	}}, "a")
	w.plugin(&plugintest.Plugin{}, "a")
	w.has("[{slow.com/x 1 1} {vendor.com/gpu 1 1}]")
	w.pod("slow", "slow.com/x", "x=1")
	<-entered
	w.pod("quick", gpu, "x=1")
	expect(t, w.grant("quick"), "x vendor.com/gpu=a")
	if _, ok := w.store.Snapshot().Grants.Get("slow"); ok {
		t.Error("the slow one is served")
	}
}

func TestRefusedRegistrations(t *testing.T) {
	w := newWorld(t, nil)
	ok := func() *pluginapi.RegisterRequest {
		return &pluginapi.RegisterRequest{Version: "v1beta1", Endpoint: "x.sock", ResourceName: gpu}
	}
	for name, change := range map[string]func(*pluginapi.RegisterRequest){
		"version":  func(q *pluginapi.RegisterRequest) { q.Version = "v1alpha" },
		"native":   func(q *pluginapi.RegisterRequest) { q.ResourceName = "cpu" },
		"domain":   func(q *pluginapi.RegisterRequest) { q.ResourceName = "x.kubernetes.io/y" },
		"name":     func(q *pluginapi.RegisterRequest) { q.ResourceName = "vendor.com/a b" },
		"path":     func(q *pluginapi.RegisterRequest) { q.Endpoint = "../../etc/x.sock" },
		"absolute": func(q *pluginapi.RegisterRequest) { q.Endpoint = "/run/x.sock" },
		"empty":    func(q *pluginapi.RegisterRequest) { q.Endpoint = "" },
		"itself":   func(q *pluginapi.RegisterRequest) { q.Endpoint = "kubelet.sock" },
	} {
		q := ok()
		change(q)
		if err := plugintest.Register(t.Context(), w.dir+"/kubelet.sock", q); err == nil {
			t.Errorf("%s: accepted %v", name, q)
		}
	}
	if got := w.m.Resources(); len(got) > 0 {
		t.Errorf("resources %v", got)
	}
}

// TestRestarts of the daemon and of the plugin: what pods have stays theirs.
func TestRestarts(t *testing.T) {
	w := newWorld(t, nil)
	p := w.plugin(&plugintest.Plugin{}, "a", "b")
	w.has("[{vendor.com/gpu 2 2}]")
	w.pod("one", gpu, "x=1")
	expect(t, w.grant("one"), "x vendor.com/gpu=a")
	p.Calls()

	w.stop()
	w.boot()
	// At once, before the plugin has said anything to this process.
	expect(t, fmt.Sprint(w.m.Resources()), "[{vendor.com/gpu 2 2}]")
	expect(t, w.grant("one"), "x vendor.com/gpu=a")
	w.pod("two", gpu, "x=1") // the plugin was taken up again without having registered
	expect(t, w.grant("two"), "x vendor.com/gpu=b")
	expect(t, p.Calls(), "allocate b")

	p.Stop()
	w.has("[{vendor.com/gpu 2 0}]")
	expect(t, strings.TrimSuffix(w.grant("one"), "(unhealthy)"), "x vendor.com/gpu=a")
	w.pod("three", gpu, "x=1")
	next := &plugintest.Plugin{Resource: gpu}
	_ = os.Remove(w.dir + "/vendor.com-gpu.sock")
	w.plugin(next, "a", "b", "c")
	w.has("[{vendor.com/gpu 3 3}]")
	expect(t, w.grant("three"), "x vendor.com/gpu=c")
}

func machine(t *testing.T, cpus int) *CPUs {
	c := &CPUs{}
	for i := range cpus {
		c.Topology = append(c.Topology, cpuplan.CPU{ID: i, Core: i / 2})
	}
	var err error
	if c.Reserved, err = cpuplan.Parse("0"); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCPUs(t *testing.T) {
	w := newWorld(t, machine(t, 8))
	w.w.Runtime.Set("shared", &model.PodRuntime{UID: "shared", Containers: []model.Container{{ID: "s", Name: "s", State: model.ContainerRunning}}})
	set := func(id, want string) {
		t.Helper()
		w.await(id+" on "+want, func() bool { w.mu.Lock(); defer w.mu.Unlock(); return w.sets[id] == want })
	}
	set("s", "0-7")
	w.pod("one", corev1.ResourceCPU, "!i=4", "x=2", "y=2")
	expect(t, w.grant("one"), "i cpus=2-5; x cpus=2-3; y cpus=4-5")
	set("s", "0-1,6-7")
	w.pod("half", corev1.ResourceCPU, "x=1500m") // not whole: it shares
	if given, free := w.m.CPUCounts(); given != 4 || free != 3 {
		t.Errorf("%d CPUs given and %d free, want 4 and 3", given, free)
	}
	w.pod("two", corev1.ResourceCPU, "x=4")
	if got := w.grant("two"); !strings.Contains(got, "Allocate failed due to not enough cpus available to satisfy request: requested=4, available=3, which is unexpected") {
		t.Error(got)
	}
	w.stop()
	w.boot()
	expect(t, w.grant("one"), "i cpus=2-5; x cpus=2-3; y cpus=4-5")
	expect(t, w.m.Shared(), "0-1,6-7")
	w.change("one", nil)
	w.await("all CPUs shared", func() bool { return w.m.Shared() == "0-7" })
	if _, ok := w.store.Snapshot().Grants.Get("half"); ok {
		t.Error("a pod that has nothing to itself has a grant")
	}
}

func TestWholeCoresOnly(t *testing.T) {
	c := machine(t, 8)
	c.Options.WholeCores = true
	w := newWorld(t, c)
	w.pod("odd", corev1.ResourceCPU, "x=3")
	expect(t, w.grant("odd"), " rejected: SMTAlignmentError: Pod was rejected: SMT Alignment Error: requested 3 cpus not multiple cpus per core = 2")
}
