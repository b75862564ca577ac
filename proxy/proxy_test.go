package proxy_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"nodelet/internal/model"
	"nodelet/internal/netns"
	"nodelet/internal/store"
	"nodelet/proxy"
	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
	"nodelet/proxy/traffic"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorder is a back end that only remembers.
type recorder struct {
	mu       sync.Mutex
	applied  []*lb.State
	fail     error
	forgot   int
	pristine bool
}

func (r *recorder) Apply(_ context.Context, want *lb.State) (lb.Result, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil {
		return lb.Result{}, r.fail
	}
	r.applied = append(r.applied, want)
	return lb.Result{Messages: 1}, nil
}

func (r *recorder) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgot++
}
func (r *recorder) Untouched(context.Context) bool            { return r.pristine }
func (r *recorder) Cleanup(context.Context) error             { return nil }
func (r *recorder) Residue(context.Context) ([]string, error) { return nil, nil }
func (r *recorder) Close() error                              { return nil }
func (r *recorder) setFail(err error)                         { r.mu.Lock(); r.fail = err; r.mu.Unlock() }
func (r *recorder) count() int                                { r.mu.Lock(); defer r.mu.Unlock(); return len(r.applied) }

const world = `node n1 192.168.0.1
service a/x ClusterIP 10.96.0.1 p:80/TCP
slice a/x of a/x p:80/TCP 10.244.0.1=ready`

// start runs a proxy in a namespace of its own and gives the way to stop it.
func start(t *testing.T, w *lbtest.World, b proxy.Backend, change func(*proxy.Config)) (*proxy.Proxy, func()) {
	t.Helper()
	return startWith(t, w, proxy.Deps{Backend: b}, change)
}

func startWith(t *testing.T, w *lbtest.World, deps proxy.Deps, change func(*proxy.Config)) (*proxy.Proxy, func()) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	cfg := proxy.Config{NodeName: "n1", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}, HealthzAddr: "127.0.0.1:0", NetNS: ns.Fd()}
	if change != nil {
		change(&cfg)
	}
	ctx, cancel := context.WithCancel(context.Background())
	deps.Store, deps.Log = w.Store, slog.New(slog.DiscardHandler)
	p, err := proxy.New(ctx, cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	var once sync.Once
	stop := func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
			_ = ns.Close()
		})
	}
	t.Cleanup(stop)
	return p, stop
}

// await waits for the store to say that the kernel holds its revision.
func await(t *testing.T, s *store.Store, r store.Revision) {
	t.Helper()
	deadline := time.After(traffic.Patience)
	for {
		snap := s.Snapshot()
		if snap.Applied[store.Proxy] >= r {
			return
		}
		select {
		case <-snap.Changed():
		case <-deadline:
			t.Fatalf("applied revision is %d, want %d", snap.Applied[store.Proxy], r)
		}
	}
}

func get(t *testing.T, p *proxy.Proxy, path string) (int, string) {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: traffic.Patience}
	r, err := c.Get("http://" + p.HealthzAddr().String() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	body, _ := io.ReadAll(r.Body)
	return r.StatusCode, string(body)
}

func TestNothingBeforeSynced(t *testing.T) {
	w := &lbtest.World{}
	w.Store, w.Writers = store.New()
	b := &recorder{}
	p, _ := start(t, w, b, nil)
	w.Services.Replace(nil)
	w.Slices.Replace(nil)
	if code, _ := get(t, p, "/healthz"); code != http.StatusServiceUnavailable {
		t.Errorf("healthz before the first sync is %d", code)
	}
	if n := b.count(); n > 0 {
		t.Errorf("wrote %d times before Nodes were synced", n)
	}
	if code, body := get(t, p, "/livez"); code != http.StatusServiceUnavailable {
		t.Errorf("livez before the first sync is %d: %s", code, body)
	}
	await(t, w.Store, w.Nodes.Replace(map[model.Key]*model.Node{{Name: "n1"}: {Name: "n1"}}))
	if b.count() == 0 {
		t.Error("wrote nothing when all were synced")
	}
	if code, body := get(t, p, "/healthz"); code != http.StatusOK {
		t.Errorf("healthz is %d: %s", code, body)
	}
}

func TestFailureIsRetriedAndSeen(t *testing.T) {
	w, b := lbtest.MustParse(world), &recorder{}
	var services, slices atomic.Int32
	p, _ := startWith(t, w, proxy.Deps{Backend: b, Metrics: proxy.Metrics{Changed: func(s, e int) { services.Add(int32(s)); slices.Add(int32(e)) }}}, nil)
	pending := func(services, slices int) {
		t.Helper()
		if s, e := p.Pending(w.Snapshot()); s != services || e != slices {
			t.Errorf("pending are %d Services and %d EndpointSlices, want %d and %d", s, e, services, slices)
		}
	}
	await(t, w.Store, w.Snapshot().Revision)
	pending(0, 0)
	b.setFail(errors.New("kernel says no"))
	before := w.Snapshot().Applied[store.Proxy]
	if err := w.Apply("slice a/x of a/x p:80/TCP 10.244.0.2=ready"); err != nil {
		t.Fatal(err)
	}
	for p.Health().Error == "" {
		time.Sleep(time.Millisecond) // the loop's health has no event to wait for
	}
	if got := w.Snapshot().Applied[store.Proxy]; got != before {
		t.Errorf("revision %d reported as applied in spite of the failure", got)
	}
	pending(0, 1)
	b.setFail(nil)
	await(t, w.Store, w.Snapshot().Revision)
	pending(0, 0)
	if services.Load() != 1 || slices.Load() != 2 { // the first list, and one change, however often it was tried
		t.Errorf("counted %d changes of Services and %d of EndpointSlices", services.Load(), slices.Load())
	}
	b.mu.Lock()
	last := b.applied[len(b.applied)-1]
	b.mu.Unlock()
	if s := last.String(); !strings.Contains(s, "10.244.0.2") || strings.Contains(s, "10.244.0.1:") {
		t.Errorf("applied after the failure:\n%s", s)
	}
}

func TestHealthOfDeletedNode(t *testing.T) {
	w, b := lbtest.MustParse(world), &recorder{}
	p, _ := start(t, w, b, nil)
	n := &model.Node{Name: "n1", ResourceVersion: "x", Deleting: true}
	w.Nodes.Set(model.Key{Name: "n1"}, n)
	await(t, w.Store, w.Snapshot().Revision)
	code, body := get(t, p, "/healthz")
	var answer struct{ NodeEligible bool }
	if err := json.Unmarshal([]byte(body), &answer); err != nil || code != http.StatusServiceUnavailable || answer.NodeEligible {
		t.Errorf("healthz of a node that is being deleted: %d %s %v", code, body, err)
	}
	if code, body := get(t, p, "/livez"); code != http.StatusOK {
		t.Errorf("livez of a node that is being deleted: %d %s", code, body)
	}
}

func TestResyncLooksUnlessUntouched(t *testing.T) {
	w, b := lbtest.MustParse(world), &recorder{}
	_, stop := start(t, w, b, func(c *proxy.Config) { c.Resync = 5 * time.Millisecond })
	await(t, w.Store, w.Snapshot().Revision)
	for b.count() < 4 {
		time.Sleep(time.Millisecond)
	}
	stop()
	if b.forgot < 3 {
		t.Errorf("asked to look at the kernel %d times in %d rounds", b.forgot, b.count())
	}
}

func TestInTheKernel(t *testing.T) {
	w := lbtest.MustParse(world)
	ns, err := netns.New()
	if err != nil {
		t.Skipf("needs network namespaces: %v", err)
	}
	defer func() { _ = ns.Close() }()
	p, stop := start(t, w, nil, func(c *proxy.Config) { c.NetNS = ns.Fd() })
	await(t, w.Store, w.Snapshot().Revision)
	views := p.Describe()
	if len(views) != 1 || views[0].Service != "a/x" || len(views[0].Endpoints) != 1 || !views[0].Endpoints[0].Cluster {
		t.Errorf("Describe: %+v", views)
	}
	stop()
	ctx := context.Background()
	if left, err := proxy.Residue(ctx, proxy.Config{NetNS: ns.Fd()}); err != nil || len(left) == 0 {
		t.Errorf("the rules did not stay: %v %v", left, err)
	}
	if _, err := proxy.Cleanup(ctx, proxy.Config{NetNS: ns.Fd()}); err != nil {
		t.Error(err)
	}
	if left, err := proxy.Residue(ctx, proxy.Config{NetNS: ns.Fd()}); err != nil || len(left) > 0 {
		t.Errorf("residue after Cleanup: %v %v", left, err)
	}
}

func TestBadInput(t *testing.T) {
	ctx, s := context.Background(), lbtest.New().Store
	if _, err := proxy.New(ctx, proxy.Config{}, proxy.Deps{Store: s, Backend: &recorder{}}); err == nil {
		t.Error("no node name: no error")
	}
	if _, err := proxy.New(ctx, proxy.Config{NodeName: "n", Mode: "magic"}, proxy.Deps{Store: s}); err == nil || !strings.Contains(err.Error(), "magic") {
		t.Errorf("unknown mode: %v", err)
	}
	busy, err := proxy.New(ctx, proxy.Config{NodeName: "n", HealthzAddr: "127.0.0.1:0"}, proxy.Deps{Store: s, Backend: &recorder{}})
	if err != nil {
		t.Fatal(err)
	}
	addr := busy.HealthzAddr().String()
	if _, err := proxy.New(ctx, proxy.Config{NodeName: "n", HealthzAddr: addr}, proxy.Deps{Store: s, Backend: &recorder{}}); err == nil || !strings.Contains(err.Error(), addr) {
		t.Errorf("port in use: %v", err)
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	_ = busy.Run(done)
}
