package dra

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	healthv1alpha1 "k8s.io/kubelet/pkg/apis/dra-health/v1alpha1"
	drav1 "k8s.io/kubelet/pkg/apis/dra/v1"
	drav1beta1 "k8s.io/kubelet/pkg/apis/dra/v1beta1"

	"nodelet/agent/dra/dratest"
	"nodelet/internal/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// driver starts one and registers it.
func (w *world) driver(d *dratest.Driver, instance string) *dratest.Driver {
	w.t.Helper()
	if err := d.Start(w.dir, instance); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(d.Stop)
	w.register(d)
	return d
}

func (w *world) register(d *dratest.Driver) {
	w.t.Helper()
	if err := w.m.Register(w.t.Context(), d.Name, d.Socket(), d.Services); err != nil {
		w.t.Fatal(err)
	}
}

func started(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.start()
	t.Cleanup(func() {
		if w.stop != nil {
			w.stop()
		}
	})
	return w
}

// TestClaimsOfOnePodInOneCall: all claims of a pod go to a driver at once; at the pod's end they are given back.
func TestClaimsOfOnePodInOneCall(t *testing.T) {
	w := started(t)
	d := w.driver(&dratest.Driver{Name: "d.example.com"}, "a")
	e := w.driver(&dratest.Driver{Name: "e.example.com"}, "b")
	w.api.claim("x", "ux", []string{"d.example.com"}, "p")
	w.api.claim("y", "uy", []string{"d.example.com", "e.example.com"}, "p")
	w.api.refuse = quiet // the authorizer learns a moment later
	w.pod("p", "x", "y")
	w.await("p", "p ready; x d.example.com/pool/dev-x=d.example.com/test=claim-ux; y d.example.com/pool/dev-y=d.example.com/test=claim-uy e.example.com/pool/dev-y=e.example.com/test=claim-uy")
	if got := d.Calls() + " | " + e.Calls(); got != "prepare x,y | prepare y" {
		t.Errorf("calls: %s", got)
	}
	if len(w.events.all) > 0 {
		t.Errorf("events: %v", w.events.all)
	}
	w.m.Release(t.Context(), "p")
	w.await("p", "")
	if got := d.Calls() + " | " + e.Calls(); got != "unprepare x,y | unprepare y" {
		t.Errorf("calls: %s", got)
	}
	if n := len(w.records.All()); n != 0 {
		t.Errorf("%d records left", n)
	}
	w.pod("p", "x", "y") // news of a pod that is at its end
	w.gone("p")
	w.pod("q")
	if got := d.Calls(); got != "" {
		t.Errorf("called again: %s", got)
	}
}

// TestWhyAPodWaits: each reason is an event and is in the table; nothing is called or kept meanwhile.
func TestWhyAPodWaits(t *testing.T) {
	for name, c := range map[string]struct {
		make func(w *world)
		want string
	}{
		"no claim":      {func(*world) {}, "ResourceClaim c does not exist"},
		"not allocated": {func(w *world) { w.api.claim("c", "u", nil, "p").Status.Allocation = nil }, "ResourceClaim c is not allocated"},
		"not reserved":  {func(w *world) { w.api.claim("c", "u", []string{"d.example.com"}, "q") }, "pod p (p) is not allowed to use ResourceClaim c (u)"},
		"no driver":     {func(w *world) { w.api.claim("c", "u", []string{"other.example.com"}, "p") }, "DRA driver other.example.com is not registered on this node"},
	} {
		t.Run(name, func(t *testing.T) {
			w := started(t)
			d := w.driver(&dratest.Driver{Name: "d.example.com"}, "a")
			c.make(w)
			w.pod("p", "c")
			w.until("the event", func() bool {
				return w.events.has("p FailedPrepareDynamicResources Failed to prepare dynamic resources: " + c.want)
			})
			if got := d.Calls(); got != "" || len(w.records.All()) > 0 {
				t.Errorf("calls %q, records %v", got, w.records.All())
			}
			w.gone("p")
			w.await("p", "")
		})
	}
}

// TestTemplate: the claim of a template must belong to the pod.
func TestTemplate(t *testing.T) {
	w := started(t)
	w.driver(&dratest.Driver{Name: "d.example.com"}, "a")
	claim := w.api.claim("p-x-abc", "u", []string{"d.example.com"}, "p")
	template, made := "t", "p-x-abc"
	pod := podOf("p")
	pod.Spec.ResourceClaims = append(pod.Spec.ResourceClaims, corev1Claim("x", template))
	w.writers.Allocations.Set("p", &model.Allocation{UID: "p"})
	w.writers.Pods.Set("p", pod)
	w.until("not made", func() bool { return w.events.has(`has not been made yet from template "t"`) })
	next := pod.DeepCopy()
	next.ResourceVersion = "2"
	next.Status.ResourceClaimStatuses = append(next.Status.ResourceClaimStatuses, corev1Status("x", made))
	w.writers.Pods.Set("p", next)
	w.until("another's", func() bool { return w.events.has("was not made for this pod") })
	yes := true
	owned := claim.DeepCopy()
	owned.OwnerReferences = []metav1.OwnerReference{{Kind: "Pod", Name: "p", UID: "p", Controller: &yes}}
	w.api.mu.Lock()
	w.api.claims[model.Key{Namespace: "ns", Name: made}] = owned
	w.api.mu.Unlock()
	w.await("p", "p ready; p-x-abc")
}

// TestFailuresAreTriedAgain: a driver that fails, says so of one claim, or leaves one out.
func TestFailuresAreTriedAgain(t *testing.T) {
	w := started(t)
	answers := make(chan *drav1.NodePrepareResourcesResponse, 3)
	d := &dratest.Driver{Name: "d.example.com"}
	d.OnPrepare = func(context.Context, *drav1.NodePrepareResourcesRequest) (*drav1.NodePrepareResourcesResponse, error) {
		select {
		case a := <-answers:
			return a, nil
		default:
			return nil, errors.New("busy")
		}
	}
	w.driver(d, "a")
	w.api.claim("c", "u", []string{"d.example.com"}, "p")
	w.pod("p", "c")
	one := func(r *drav1.NodePrepareResourceResponse) *drav1.NodePrepareResourcesResponse {
		return &drav1.NodePrepareResourcesResponse{Claims: map[string]*drav1.NodePrepareResourceResponse{"u": r}}
	}
	w.until("an error", func() bool { return w.events.has("busy") })
	answers <- &drav1.NodePrepareResourcesResponse{}
	w.until("a claim left out", func() bool { return w.events.has("skipped ResourceClaim c") })
	answers <- one(&drav1.NodePrepareResourceResponse{Error: "no such device"})
	w.until("an error of a claim", func() bool { return w.events.has("failed for ResourceClaim c: no such device") })
	answers <- one(&drav1.NodePrepareResourceResponse{Devices: []*drav1.Device{{CdiDeviceIds: []string{"x"}}}})
	w.until("a bad name", func() bool { return w.events.has("each must be like vendor.com/class=name") })
	answers <- one(&drav1.NodePrepareResourceResponse{})
	w.await("p", "p ready; c")
	d.OnPrepare = nil
}

// TestSharedClaim: it is prepared once, and given back after the last pod.
func TestSharedClaim(t *testing.T) {
	w := started(t)
	d := w.driver(&dratest.Driver{Name: "d.example.com"}, "a")
	w.api.claim("c", "u", []string{"d.example.com"}, "p", "q")
	w.pod("p", "c")
	w.pod("q", "c")
	w.await("p", "p ready")
	w.await("q", "q ready")
	w.m.Release(t.Context(), "p")
	w.await("p", "")
	if got := d.Calls(); got != "prepare c" {
		t.Errorf("calls: %s", got)
	}
	w.gone("q") // by force: nothing of it runs
	w.await("q", "")
	if got := d.Calls(); got != "unprepare c" || len(d.Prepared()) > 0 {
		t.Errorf("calls: %s, prepared %v", got, d.Prepared())
	}
}

// TestForceDeletedPodBlocksItsHeir: pod and claim are replaced by others of the same names while the old ones are still stopped.
func TestForceDeletedPodBlocksItsHeir(t *testing.T) {
	w := started(t)
	d := w.driver(&dratest.Driver{Name: "d.example.com"}, "a")
	w.api.claim("c", "u1", []string{"d.example.com"}, "old")
	w.pod("old", "c")
	w.await("old", "old ready")
	w.writers.Runtime.Set("old", &model.PodRuntime{UID: "old", Containers: []model.Container{{Name: "c", State: model.ContainerRunning}}})
	w.gone("old")
	w.api.claim("c", "u2", []string{"d.example.com"}, "new")
	w.pod("new", "c")
	w.until("the event", func() bool {
		return w.events.has("old ResourceClaim with same name c and different UID u1 still exists")
	})
	if got := d.Prepared(); !slices.Equal(got, []string{"u1"}) {
		t.Errorf("prepared: %v", got)
	}
	d.Fail(errors.New("busy"))
	w.writers.Runtime.Delete("old")
	w.await("old", "old waiting; c; ")
	d.Fail(nil)
	w.await("new", "new ready")
	if got := d.Prepared(); !slices.Equal(got, []string{"u2"}) {
		t.Errorf("prepared: %v", got)
	}
}

// TestRestarts: within a boot what is prepared stays so; after a boot it is prepared anew.
func TestRestarts(t *testing.T) {
	w := started(t)
	d := w.driver(&dratest.Driver{Name: "d.example.com"}, "a")
	w.api.claim("c", "u", []string{"d.example.com"}, "p")
	w.api.claim("x", "ux", []string{"d.example.com"}, "q")
	w.pod("p", "c")
	w.pod("q", "x")
	w.await("p", "p ready")
	w.await("q", "q ready")
	d.Calls()
	w.start()
	w.await("p", "p ready; c d.example.com/pool/dev-c=d.example.com/test=claim-u")
	w.register(d)
	w.pod("other")
	w.gone("q")
	w.await("q", "")
	if got := d.Calls(); got != "unprepare x" {
		t.Errorf("calls within a boot: %s", got)
	}
	w.boot = "boot2"
	w.start()
	w.register(d)
	w.await("p", "p ready")
	if got := d.Calls(); got != "prepare c" {
		t.Errorf("calls after a boot: %s", got)
	}
}

// TestInterrupted: a pod that is deleted while its driver hangs does not wait for it.
func TestInterrupted(t *testing.T) {
	w := started(t)
	began := make(chan bool)
	d := &dratest.Driver{Name: "d.example.com"}
	d.OnPrepare = func(ctx context.Context, _ *drav1.NodePrepareResourcesRequest) (*drav1.NodePrepareResourcesResponse, error) {
		began <- true
		<-ctx.Done()
		return nil, ctx.Err()
	}
	w.driver(d, "a")
	w.driver(&dratest.Driver{Name: "e.example.com"}, "b")
	w.api.claim("c", "u", []string{"d.example.com"}, "p")
	w.api.claim("x", "ux", []string{"e.example.com"}, "q")
	w.pod("p", "c")
	<-began
	w.pod("q", "x")
	w.await("q", "q ready") // others are not delayed
	w.gone("p")
	w.await("p", "")
	if got := d.Calls(); !strings.HasSuffix(got, "unprepare c") {
		t.Errorf("calls: %s", got)
	}
}

// TestVersions: the plugin's first service that we know is spoken; one without any is refused.
func TestVersions(t *testing.T) {
	w := started(t)
	d := w.driver(&dratest.Driver{Name: "d.example.com", Services: []string{"v9.DRAPlugin", drav1beta1.DRAPluginService, drav1.DRAPluginService}}, "a")
	w.api.claim("c", "u", []string{"d.example.com"}, "p")
	w.pod("p", "c")
	w.await("p", "p ready; c d.example.com/pool/dev-c=")
	if got := d.Calls(); got != "v1beta1; prepare c" {
		t.Errorf("calls: %s", got)
	}
	for name, services := range map[string][]string{"x.example.com": {"v9.DRAPlugin"}, "y.example.com": nil, "No/name": {drav1.DRAPluginService}} {
		if err := w.m.Register(t.Context(), name, "/nowhere", services); err == nil {
			t.Errorf("%s with %v was taken", name, services)
		}
	}
}

// TestRollingUpdate: the newest plugin of a driver is called, an older one when that is gone, and nothing published is removed.
func TestRollingUpdate(t *testing.T) {
	w := newWorld(t)
	w.grace = time.Millisecond
	w.start()
	t.Cleanup(func() { w.stop() })
	if got := <-w.api.wiped; got != "n/" {
		t.Fatalf("removed at the start: %s", got)
	}
	w.grace = time.Hour
	w.start()
	old := w.driver(&dratest.Driver{Name: "d.example.com"}, "a")
	next := w.driver(&dratest.Driver{Name: "d.example.com"}, "b")
	answers := func(socket string) func() bool {
		return func() bool {
			p := w.m.at(socket)
			w.m.mu.Lock()
			defer w.m.mu.Unlock()
			return p.answers
		}
	}
	w.until("both", func() bool { return answers(old.Socket())() && answers(next.Socket())() })
	w.api.claim("c", "u", []string{"d.example.com"}, "p")
	w.api.claim("x", "ux", []string{"d.example.com"}, "q")
	w.pod("p", "c")
	w.await("p", "p ready")
	if a, b := old.Calls(), next.Calls(); a != "" || b != "prepare c" {
		t.Errorf("calls: %q and %q", a, b)
	}
	next.Stop() // a failed update: it is gone without a word
	w.until("gone", func() bool { return !answers(next.Socket())() })
	w.pod("q", "x")
	w.await("q", "q ready")
	if got := old.Calls(); got != "prepare x" {
		t.Errorf("calls: %s", got)
	}
	if err := w.m.Deregister(t.Context(), "d.example.com", next.Socket()); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-w.api.wiped:
		t.Errorf("removed: %s", got)
	default:
	}
}

// TestSlicesOfLostDriversAreRemoved: after the grace, also when the daemon was restarted meanwhile; not of one that is back.
func TestSlicesOfLostDriversAreRemoved(t *testing.T) {
	w := newWorld(t)
	w.grace = 300 * time.Millisecond
	w.start()
	t.Cleanup(func() { w.stop() })
	if got := <-w.api.wiped; got != "n/" {
		t.Fatalf("removed at the start: %s", got)
	}
	w.until("noted", func() bool { return len(w.drivers.All()) == 1 })
	stays := w.driver(&dratest.Driver{Name: "stays.example.com"}, "a")
	goes := w.driver(&dratest.Driver{Name: "goes.example.com"}, "b")
	w.start()
	w.register(stays)
	if got := <-w.api.wiped; got != "n/goes.example.com" {
		t.Fatalf("removed after a restart: %s", got)
	}
	w.register(goes)
	if err := w.m.Deregister(t.Context(), "stays.example.com", stays.Socket()); err != nil {
		t.Fatal(err)
	}
	if got := <-w.api.wiped; got != "n/stays.example.com" {
		t.Fatalf("removed: %s", got)
	}
	w.until("forgotten", func() bool { _, ok := w.drivers.All()["stays.example.com"]; return !ok })
	w.boot = "boot2"
	w.drivers.Take()
	w.start()
	if got := <-w.api.wiped; got != "n/" {
		t.Fatalf("removed after a boot: %s", got)
	}
}

// TestHealth: what a driver says of its devices is seen, until it is too old or the driver is gone.
func TestHealth(t *testing.T) {
	w := started(t)
	d := w.driver(&dratest.Driver{Name: "d.example.com"}, "a")
	w.api.claim("c", "u", []string{"d.example.com"}, "p")
	w.pod("p", "c")
	w.await("p", "p ready")
	health := func() (model.Health, string) {
		row, _ := w.store.Snapshot().Prepared.Get("p")
		return row.Claims[0].Devices[0].Health, row.Claims[0].Devices[0].Message
	}
	is := func(want model.Health, message string) func() bool {
		return func() bool { h, m := health(); return h == want && m == message }
	}
	d.Tell("dev-c", healthv1alpha1.HealthStatus_UNHEALTHY, "hot", 1000)
	w.until("unhealthy", is(model.Unhealthy, "hot"))
	d.Tell("dev-c", healthv1alpha1.HealthStatus_HEALTHY, "", 1)
	w.until("healthy", is(model.Healthy, ""))
	w.until("too old", is(model.HealthUnknown, ""))
	d.Tell("dev-c", healthv1alpha1.HealthStatus_HEALTHY, "", 1000)
	w.until("healthy", is(model.Healthy, ""))
	if err := w.m.Deregister(t.Context(), d.Name, d.Socket()); err != nil {
		t.Fatal(err)
	}
	w.until("gone", is(model.HealthUnknown, ""))
}
