package dns

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"nodelet/internal/model"
	"nodelet/internal/store"
)

const testPort = 10053

var lastAddr atomic.Uint32

// loopback gives an address of its own to each server of a test run, so that
// runs beside one another do not meet.
func loopback() netip.Addr {
	n := lastAddr.Add(1)
	pid := os.Getpid()
	return netip.AddrFrom4([4]byte{127, byte(64 + pid>>8%64), byte(pid), byte(n)})
}

// server is a DNS under test on its own loopback address.
type server struct {
	*DNS
	addr    string
	writers *store.Writers
	store   *store.Store
	stop    func()
}

// start runs a DNS; change edits its configuration first.
func start(t testing.TB, change func(*Config)) *server {
	t.Helper()
	a := loopback()
	c := DefaultConfig("cluster.local", a)
	c.Port, c.Link = testPort, ""
	c.ResolvConf = filepath.Join(t.TempDir(), "resolv.conf")
	c.ResolvedConf = filepath.Join(t.TempDir(), "resolved.conf")
	c.Limits.Timeout = 4 * time.Second // a busy machine is not a dead resolver
	if change != nil {
		change(&c)
	}
	st, w := store.New()
	return startOn(t, c, st, w)
}

func startOn(t testing.TB, c Config, st *store.Store, w *store.Writers) *server {
	t.Helper()
	log := slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	d, err := New(c, Deps{Store: st, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	var once sync.Once
	stop := func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("Run ended with %v", err)
			}
		})
	}
	t.Cleanup(stop)
	s := &server{DNS: d, addr: netip.AddrPortFrom(c.ListenAddrs[0], c.Port).String(), writers: w, store: st, stop: stop}
	eventually(t, "sockets to open", func() bool { b := d.bound.Load(); return b != nil && *b == nil })
	return s
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// testWriter writes to the test's log; a line after the end of the test is lost.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Helper()
	w.t.Log(string(p))
	return len(p), nil
}

// eventually waits for a state that has no event to wait for.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 10 s for %s", what)
		}
	}
}

// sync gives the server its first lists: these Services, and no slices.
func (s *server) sync(services ...*model.Service) {
	m := map[model.Key]*model.Service{}
	for _, svc := range services {
		m[svc.Key] = svc
	}
	s.writers.Services.Replace(m)
	s.writers.Slices.Replace(nil)
	s.settle()
}

// settle waits until the zone is at the store's revision.
func (s *server) settle() {
	for {
		snap := s.store.Snapshot()
		if snap.Applied[store.DNS] >= snap.Revision {
			return
		}
		<-snap.Changed()
	}
}

func clusterIP(name, ip string) *model.Service {
	return &model.Service{
		Key: model.ParseKey(name), ClusterIPs: []netip.Addr{netip.MustParseAddr(ip)},
		Ports: []model.ServicePort{{Name: "http", Protocol: model.TCP, Port: 80}},
	}
}

func external(name, target string) *model.Service {
	return &model.Service{Key: model.ParseKey(name), Type: model.ExternalName, ExternalName: target}
}

// ask asks once over network.
func (s *server) ask(t testing.TB, network, name string, qtype uint16) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), qtype)
	c := dns.Client{Net: network, Timeout: 5 * time.Second}
	r, _, err := c.Exchange(m, s.addr)
	if err != nil {
		t.Fatalf("%s %s over %s: %v", name, dns.TypeToString[qtype], network, err)
	}
	return r
}

// first is the reply in short: its code, and the data of its last answer.
func first(m *dns.Msg) string {
	out := dns.RcodeToString[m.Rcode]
	if len(m.Answer) > 0 {
		rr := m.Answer[len(m.Answer)-1]
		out += " " + rr.String()[len(rr.Header().String()):]
	}
	return out
}

func expect(t testing.TB, m *dns.Msg, want string) {
	t.Helper()
	if got := first(m); got != want {
		t.Errorf("got %q, want %q in\n%s", got, want, m)
	}
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestServesBothTransports(t *testing.T) {
	s := start(t, nil)
	s.sync(clusterIP("default/web", "10.96.0.5"))
	for _, network := range []string{"udp", "tcp"} {
		expect(t, s.ask(t, network, "web.default.svc.cluster.local", dns.TypeA), "NOERROR 10.96.0.5")
		expect(t, s.ask(t, network, "no.default.svc.cluster.local", dns.TypeA), "NXDOMAIN")
	}
	if err := s.Ready(); err != nil {
		t.Errorf("not ready: %v", err)
	}
}

func TestServfailBeforeSync(t *testing.T) {
	s := start(t, nil)
	expect(t, s.ask(t, "udp", "web.default.svc.cluster.local", dns.TypeA), "SERVFAIL")
	if s.Ready() == nil {
		t.Error("ready before the tables are synced")
	}
	s.writers.Services.Set(model.ParseKey("default/web"), clusterIP("default/web", "10.96.0.5"))
	expect(t, s.ask(t, "udp", "web.default.svc.cluster.local", dns.TypeA), "SERVFAIL")
	s.sync(clusterIP("default/web", "10.96.0.5"))
	expect(t, s.ask(t, "udp", "web.default.svc.cluster.local", dns.TypeA), "NOERROR 10.96.0.5")
}

// TestStatsBeforeSync: metrics are scraped at any time, before the first zone as well.
func TestStatsBeforeSync(t *testing.T) {
	s := start(t, nil)
	if got := s.Stats(); got.Services != 0 || got.Revision != 0 {
		t.Errorf("%+v", got)
	}
}

func TestZoneFollowsStore(t *testing.T) {
	s := start(t, nil)
	s.sync()
	expect(t, s.ask(t, "udp", "web.default.svc.cluster.local", dns.TypeA), "NXDOMAIN")
	rev := s.writers.Services.Set(model.ParseKey("default/web"), clusterIP("default/web", "10.96.0.5"))
	s.settle()
	expect(t, s.ask(t, "udp", "web.default.svc.cluster.local", dns.TypeA), "NOERROR 10.96.0.5")
	expect(t, s.ask(t, "udp", "rev._nodelet.cluster.local", dns.TypeTXT), fmt.Sprintf("NOERROR %q", fmt.Sprint(rev)))
	s.writers.Services.Delete(model.ParseKey("default/web"))
	s.settle()
	expect(t, s.ask(t, "udp", "web.default.svc.cluster.local", dns.TypeA), "NXDOMAIN")
}

func TestGoResolver(t *testing.T) {
	s := start(t, nil)
	s.sync(clusterIP("default/web", "10.96.0.5"))
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.addr)
	}}
	got, err := r.LookupNetIP(context.Background(), "ip4", "web.default.svc.cluster.local.")
	if err != nil || len(got) != 1 || got[0].String() != "10.96.0.5" {
		t.Errorf("lookup gave %v, %v", got, err)
	}
	_, srvs, err := r.LookupSRV(context.Background(), "http", "tcp", "web.default.svc.cluster.local.")
	if err != nil || len(srvs) != 1 || srvs[0].Port != 80 {
		t.Errorf("SRV lookup gave %v, %v", srvs, err)
	}
	names, err := r.LookupAddr(context.Background(), "10.96.0.5")
	if err != nil || len(names) != 1 || names[0] != "web.default.svc.cluster.local." {
		t.Errorf("PTR lookup gave %v, %v", names, err)
	}
}
