package nodestatus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/agent/nodestatus/nodeplan"
	"nodelet/internal/model"
	"nodelet/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// api is an API server with one node.
type api struct {
	mu      sync.Mutex
	node    *corev1.Node
	lease   *coordinationv1.Lease
	rv      int
	down    error // every call fails with it
	writes  []string
	renews  []time.Time
	onPatch func(*corev1.Node)
}

func (a *api) enter(what string) (func(), error) {
	a.mu.Lock()
	if a.down != nil {
		defer a.mu.Unlock()
		return nil, a.down
	}
	if what != "" {
		a.writes = append(a.writes, fmt.Sprintf("%s %s", time.Now().UTC().Format("15:04:05.000"), what))
		a.rv++
	}
	return a.mu.Unlock, nil
}

func notFound(kind, name string) error {
	return apierrors.NewNotFound(schema.GroupResource{Resource: kind}, name)
}

func (a *api) GetNode(_ context.Context, name string) (*corev1.Node, error) {
	leave, err := a.enter("")
	if err != nil {
		return nil, err
	}
	defer leave()
	if a.node == nil {
		return nil, notFound("nodes", name)
	}
	return a.node.DeepCopy(), nil
}

func (a *api) CreateNode(_ context.Context, n *corev1.Node) (*corev1.Node, error) {
	leave, err := a.enter("create")
	if err != nil {
		return nil, err
	}
	defer leave()
	if a.node != nil {
		return nil, apierrors.NewAlreadyExists(schema.GroupResource{Resource: "nodes"}, n.Name)
	}
	a.node = n.DeepCopy()
	a.node.UID, a.node.ResourceVersion = "uid-1", fmt.Sprint(a.rv)
	return a.node.DeepCopy(), nil
}

func (a *api) PatchNodeStatus(_ context.Context, name string, patch []byte) (*corev1.Node, error) {
	leave, err := a.enter("patch")
	if err != nil {
		return nil, err
	}
	defer leave()
	if a.node == nil {
		return nil, notFound("nodes", name)
	}
	before, _ := json.Marshal(a.node)
	after, err := strategicpatch.StrategicMergePatch(before, patch, corev1.Node{})
	if err != nil {
		return nil, err
	}
	a.node = &corev1.Node{}
	if err := json.Unmarshal(after, a.node); err != nil {
		return nil, err
	}
	a.node.ResourceVersion = fmt.Sprint(a.rv)
	if a.onPatch != nil {
		a.onPatch(a.node)
	}
	return a.node.DeepCopy(), nil
}

func (a *api) GetLease(ctx context.Context, _, name string) (*coordinationv1.Lease, error) {
	leave, err := a.enter("")
	if err != nil {
		return nil, err
	}
	defer leave()
	if a.lease == nil {
		return nil, notFound("leases", name)
	}
	return a.lease.DeepCopy(), nil
}

func (a *api) CreateLease(ctx context.Context, l *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	return a.UpdateLease(ctx, l)
}

func (a *api) UpdateLease(_ context.Context, l *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	leave, err := a.enter("")
	if err != nil {
		return nil, err
	}
	defer leave()
	a.lease = l.DeepCopy()
	a.renews = append(a.renews, time.Now())
	return l, nil
}

func (a *api) ready() (status corev1.ConditionStatus, message string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.node == nil {
		return "", ""
	}
	for _, c := range a.node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status, c.Message
		}
	}
	return "", ""
}

func (a *api) renewals() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.renews)
}

// state gives what the server holds.
func (a *api) state() (*corev1.Node, *coordinationv1.Lease) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.node, a.lease
}

func (a *api) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.writes)
}

// fakeRuntime answers as told.
type fakeRuntime struct {
	mu      sync.Mutex
	ready   bool
	network bool
	err     error
	hang    bool
	asked   int
}

func (r *fakeRuntime) set(do func(*fakeRuntime)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	do(r)
}

func (r *fakeRuntime) Status(ctx context.Context, _ *runtimev1.StatusRequest) (*runtimev1.StatusResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	if r.hang {
		r.mu.Unlock()
		<-ctx.Done()
		r.mu.Lock()
		return nil, ctx.Err()
	}
	if r.err != nil {
		return nil, r.err
	}
	return &runtimev1.StatusResponse{Status: &runtimev1.RuntimeStatus{Conditions: []*runtimev1.RuntimeCondition{
		{Type: runtimev1.RuntimeReady, Status: r.ready},
		{Type: runtimev1.NetworkReady, Status: r.network, Reason: "NetworkPluginNotReady"},
	}}}, nil
}

func (r *fakeRuntime) Version(context.Context, *runtimev1.VersionRequest) (*runtimev1.VersionResponse, error) {
	return &runtimev1.VersionResponse{RuntimeName: "containerd", RuntimeVersion: "v2.4.2"}, nil
}

func (r *fakeRuntime) ListImages(context.Context, *runtimev1.ListImagesRequest) (*runtimev1.ListImagesResponse, error) {
	return &runtimev1.ListImagesResponse{Images: []*runtimev1.Image{{Id: "1", RepoTags: []string{"a:1"}, Size: 10}, {Id: "2", RepoTags: []string{"b:1"}, Size: 20}}}, nil
}

type events struct {
	mu  sync.Mutex
	all []string
}

func (e *events) Event(_ corev1.ObjectReference, kind, reason, _ string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, kind+" "+reason)
}

// world is everything around a NodeStatus.
type world struct {
	api     *api
	runtime *fakeRuntime
	events  *events
	store   *store.Store
	writers *store.Writers
	status  *NodeStatus
	stop    func()
}

func start(t *testing.T, w *world, cfg Config) *world {
	t.Helper()
	if w == nil {
		w = &world{api: &api{}, runtime: &fakeRuntime{}, events: &events{}}
	}
	w.store, w.writers = store.New()
	cfg.Identity = nodeplan.Identity{Name: "n1", IPs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, KubeletPort: 10250, KubeletVersion: "v1.36.3+nodelet"}
	cfg.Reserve.MaxPods = 110
	cfg.KubeletRoot = t.TempDir()
	cfg.HostRoot = fakeHost(t)
	n, err := New(cfg, Deps{Store: w.store, API: w.api, Runtime: w.runtime, Events: w.events, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	w.status = n
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := n.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	}()
	w.stop = func() { cancel(); <-done }
	return w
}

func fakeHost(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range map[string]string{
		"proc/meminfo":                                          "MemTotal:        8000000 kB\nSwapTotal:             0 kB\n",
		"proc/sys/kernel/osrelease":                             "6.18.0\n",
		"proc/sys/kernel/random/boot_id":                        "boot-1\n",
		"sys/devices/system/cpu/online":                         "0-1,4\n",
		"etc/machine-id":                                        "machine-1\n",
		"usr/lib/os-release":                                    "NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n",
		"sys/class/dmi/id/product_uuid":                         "ABC\n",
		"sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages": "3\n",
	} {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// settle lets time pass and everything that follows from it happen.
func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestFirstReadyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, nil, Config{Require: []Requirement{{store.Proxy, "service proxy has not programmed the kernel yet"}, {store.DNS, "cluster DNS does not answer yet"}}})
		defer w.stop()
		settle(3 * time.Second)
		if s, m := w.api.ready(); s != corev1.ConditionFalse || !strings.Contains(m, "RuntimeReady=false") || !strings.Contains(m, "cluster DNS does not answer yet") {
			t.Fatalf("ready %q %q", s, m)
		}
		w.runtime.set(func(r *fakeRuntime) { r.ready, r.network = true, true })
		w.status.Poke()
		settle(0)
		if s, m := w.api.ready(); s != corev1.ConditionFalse || strings.Contains(m, "runtime") {
			t.Fatalf("after the runtime: %q %q", s, m)
		}
		w.store.SetApplied(store.Proxy, 1)
		settle(0)
		if s, m := w.api.ready(); s != corev1.ConditionFalse || m != "cluster DNS does not answer yet" {
			t.Fatalf("after the proxy: %q %q", s, m)
		}
		before := time.Now()
		w.store.SetApplied(store.DNS, 1)
		settle(0)
		if s, m := w.api.ready(); s != corev1.ConditionTrue {
			t.Fatalf("after DNS: %q %q", s, m)
		}
		if d := time.Since(before); d != 0 {
			t.Errorf("ready %v after its cause", d)
		}
	})
}

// Without a hint the runtime is looked at often enough.
func TestRuntimeBecomesReadyUnannounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, nil, Config{})
		defer w.stop()
		settle(17 * time.Second)
		w.runtime.set(func(r *fakeRuntime) { r.ready, r.network = true, true })
		settle(askEagerlyMax)
		if s, m := w.api.ready(); s != corev1.ConditionTrue {
			t.Fatalf("%q %q", s, m)
		}
		if n := w.api.count(); n > 4 {
			t.Errorf("%d writes for two states: %v", n, w.api.writes)
		}
	})
}

func running(t *testing.T, w *world) *world {
	t.Helper()
	if w == nil {
		w = &world{api: &api{}, runtime: &fakeRuntime{ready: true, network: true}, events: &events{}}
	}
	w = start(t, w, Config{})
	settle(0)
	if s, m := w.api.ready(); s != corev1.ConditionTrue {
		t.Fatalf("ready %q %q", s, m)
	}
	return w
}

func TestIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := running(t, nil)
		defer w.stop()
		settle(30 * time.Second) // the images are listed and shown in this time
		writes, renews := w.api.count(), w.api.renewals()
		settle(4 * time.Minute)
		if n := w.api.count(); n != writes {
			t.Errorf("%d writes without news: %v", n-writes, w.api.writes)
		}
		if n := w.api.renewals() - renews; n < 22 || n > 24 {
			t.Errorf("%d renewals in 4 minutes", n)
		}
		settle(time.Minute)
		if n := w.api.count(); n != writes+1 {
			t.Errorf("%d writes after 5 minutes, want 1: %v", n-writes, w.api.writes)
		}
		node, l := w.api.state()
		if *l.Spec.LeaseDurationSeconds != 40 || *l.Spec.HolderIdentity != "n1" || l.OwnerReferences[0].UID != "uid-1" {
			t.Errorf("lease %+v", l)
		}
		if i := node.Status.Images; len(i) != 2 || i[0].Names[0] != "b:1" {
			t.Errorf("images %v", i)
		}
		w.runtime.mu.Lock()
		defer w.runtime.mu.Unlock()
		if w.runtime.asked > 70 {
			t.Errorf("the runtime was asked %d times in 5.5 minutes", w.runtime.asked)
		}
	})
}

// A runtime that hangs stops neither the Lease nor flaps the status; after the threshold the node is not ready.
func TestRuntimeHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := running(t, nil)
		defer w.stop()
		settle(time.Minute)
		renews := w.api.renewals()
		w.runtime.set(func(r *fakeRuntime) { r.hang = true })
		settle(24 * time.Second)
		if s, m := w.api.ready(); s != corev1.ConditionTrue {
			t.Errorf("after 24 s: %q %q", s, m)
		}
		settle(21 * time.Second)
		if s, m := w.api.ready(); s != corev1.ConditionFalse || m != "container runtime is down" {
			t.Errorf("after 45 s: %q %q", s, m)
		}
		settle(55 * time.Second)
		if n := w.api.renewals() - renews; n < 9 {
			t.Errorf("%d renewals in 100 s", n)
		}
		w.runtime.set(func(r *fakeRuntime) { r.hang = false })
		settle(askTimeout + askEagerlyMax)
		if s, m := w.api.ready(); s != corev1.ConditionTrue {
			t.Errorf("after it is back: %q %q", s, m)
		}
	})
}

// An answer of "not ready" counts at once; an error counts only after the threshold.
func TestRuntimeFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := running(t, nil)
		defer w.stop()
		settle(time.Minute)
		w.runtime.set(func(r *fakeRuntime) { r.err = errors.New("connection refused") })
		settle(20 * time.Second)
		if s, m := w.api.ready(); s != corev1.ConditionTrue {
			t.Errorf("a restart of the runtime: %q %q", s, m)
		}
		w.runtime.set(func(r *fakeRuntime) { r.err, r.network = nil, false })
		settle(askInterval + askEagerlyMax)
		if s, m := w.api.ready(); s != corev1.ConditionFalse || !strings.Contains(m, "NetworkReady=false reason:NetworkPluginNotReady") {
			t.Errorf("no network: %q %q", s, m)
		}
	})
}

// A daemon that restarts finds the node Ready and keeps it so while it knows nothing yet.
func TestRestartDoesNotFlip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := running(t, nil)
		settle(time.Minute)
		w.stop()
		flips := 0
		w.api.onPatch = func(n *corev1.Node) {
			for _, c := range n.Status.Conditions {
				if c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue {
					flips++
				}
			}
		}
		settle(5 * time.Second)
		w.runtime.set(func(r *fakeRuntime) { r.err = errors.New("starting") })
		w = start(t, w, Config{Require: []Requirement{{store.Proxy, "x"}}})
		defer w.stop()
		settle(20 * time.Second)
		w.runtime.set(func(r *fakeRuntime) { r.err = nil })
		w.store.SetApplied(store.Proxy, 1)
		settle(2 * time.Minute)
		if s, _ := w.api.ready(); s != corev1.ConditionTrue {
			t.Error("not ready")
		}
		w.api.mu.Lock()
		defer w.api.mu.Unlock()
		if flips != 0 {
			t.Errorf("Ready flipped %d times", flips)
		}
	})
}

// The node controller says Unknown when it has not heard of us; we put it right as soon as we see it.
func TestForeignWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := running(t, nil)
		defer w.stop()
		settle(time.Minute)
		w.api.mu.Lock()
		for i := range w.api.node.Status.Conditions {
			w.api.node.Status.Conditions[i].Status = corev1.ConditionUnknown
		}
		w.api.rv++
		w.api.node.ResourceVersion = fmt.Sprint(w.api.rv)
		rv := w.api.node.ResourceVersion
		w.api.mu.Unlock()
		w.writers.Nodes.Set(model.Key{Name: "n1"}, &model.Node{Name: "n1", ResourceVersion: rv})
		settle(0)
		if s, m := w.api.ready(); s != corev1.ConditionTrue {
			t.Errorf("%q %q", s, m)
		}
	})
}

// Without an API server everything is tried again until there is one; a node that was deleted is
// not made again.
func TestAPIAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{api: &api{down: errors.New("connection refused")}, runtime: &fakeRuntime{ready: true, network: true}, events: &events{}}
		start(t, w, Config{})
		defer w.stop()
		settle(time.Minute)
		w.api.mu.Lock()
		w.api.down = nil
		w.api.mu.Unlock()
		settle(6 * time.Second)
		if s, m := w.api.ready(); s != corev1.ConditionTrue || w.api.renewals() == 0 {
			t.Fatalf("%q %q, %d renewals", s, m, w.api.renewals())
		}
		w.api.mu.Lock()
		w.api.node = nil
		w.api.mu.Unlock()
		settle(6 * time.Minute)
		w.api.mu.Lock()
		defer w.api.mu.Unlock()
		if w.api.node != nil {
			t.Error("a node that was deleted was registered again")
		}
	})
}

// A Lease that a former Node of this name left behind gets the new owner.
func TestLeaseOfFormerNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := &coordinationv1.Lease{}
		old.Name = "n1"
		old.OwnerReferences = append(old.OwnerReferences, metaOwner("old-uid"))
		w := running(t, &world{api: &api{lease: old}, runtime: &fakeRuntime{ready: true, network: true}, events: &events{}})
		defer w.stop()
		_, l := w.api.state()
		if o := l.OwnerReferences; len(o) != 1 || o[0].UID != types.UID("uid-1") {
			t.Errorf("owners %v", o)
		}
	})
}

// Users hear when somebody takes the node out of service, and back.
func TestCordonIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := running(t, nil)
		defer w.stop()
		settle(time.Second)
		for i, want := range []string{"Normal NodeNotSchedulable", "Normal NodeSchedulable"} {
			w.api.mu.Lock()
			w.api.rv++
			w.api.node.Spec.Unschedulable = i == 0
			w.api.node.ResourceVersion = fmt.Sprint(w.api.rv)
			rv := w.api.node.ResourceVersion
			w.api.mu.Unlock()
			row := &model.Node{Name: "n1", ResourceVersion: rv}
			if i == 0 {
				row.Taints = []corev1.Taint{{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}} // by the node controller
			}
			w.writers.Nodes.Set(model.Key{Name: "n1"}, row)
			settle(time.Minute)
			w.events.mu.Lock()
			n := 0
			for _, e := range w.events.all {
				if e == want {
					n++
				}
			}
			w.events.mu.Unlock()
			if n != 1 {
				t.Errorf("%s told %d times: %q", want, n, w.events.all)
			}
		}
	})
}

// With registerNode false the object is waited for, and taken up once somebody has made it.
func TestNodeMadeBySomebodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, nil, Config{NoRegister: true})
		defer w.stop()
		settle(20 * time.Second)
		if n, _ := w.api.state(); n != nil || len(w.api.writes) > 0 {
			t.Fatalf("registered all the same: %v, %v", n, w.api.writes)
		}
		made := &corev1.Node{}
		made.Name, made.UID, made.ResourceVersion = "n1", "uid-1", "1"
		w.api.mu.Lock()
		w.api.node = made
		w.api.mu.Unlock()
		settle(20 * time.Second)
		select {
		case <-w.status.Registered():
		default:
			t.Fatal("not taken up")
		}
	})
}

func TestMostImages(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want int
	}{{Config{}, 50}, {Config{MaxImages: 3}, 3}, {Config{MaxImages: 90}, 70}, {Config{MaxImages: -1}, 70}, {Config{NoImages: true}, 0}} {
		images := make([]*runtimev1.Image, 70)
		if got := largest(images, c.cfg.mostImages(70)); len(got) != c.want || got == nil {
			t.Errorf("%+v: %d images", c.cfg, len(got))
		}
	}
}

func metaOwner(uid types.UID) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: "v1", Kind: "Node", Name: "n1", UID: uid}
}

func TestReadMachine(t *testing.T) {
	m, err := ReadMachine(fakeHost(t), filepath.Join(t.TempDir(), "not", "there", "yet"))
	if err != nil {
		t.Fatal(err)
	}
	if m.CPUs != 3 || m.Memory != 8000000*1024 || m.OSImage != "Debian GNU/Linux 12 (bookworm)" || m.SystemUUID != "abc" ||
		m.MachineID != "machine-1" || m.BootID != "boot-1" || m.EphemeralStorage == 0 || m.HugePages[2<<20] != 6<<20 {
		t.Errorf("%+v", m)
	}
	if _, err := ReadMachine(t.TempDir(), t.TempDir()); err == nil {
		t.Error("a machine without /proc was accepted")
	}
	if m, err := ReadMachine("/", "/"); err != nil || m.CPUs == 0 || m.BootID == "" {
		t.Errorf("this machine: %+v %v", m, err)
	}
}

func TestNewRefuses(t *testing.T) {
	good := func() Config {
		return Config{Identity: nodeplan.Identity{Name: "n", IPs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}, HostRoot: fakeHost(t), KubeletRoot: "/"}
	}
	if _, err := New(good(), Deps{}); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Config){
		"no name":         func(c *Config) { c.Identity.Name = "" },
		"no address":      func(c *Config) { c.Identity.IPs = nil },
		"reserve too big": func(c *Config) { c.Reserve.EvictMemory = 1 << 50 },
		"no proc":         func(c *Config) { c.HostRoot = t.TempDir() },
	} {
		c := good()
		spoil(&c)
		if _, err := New(c, Deps{}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
