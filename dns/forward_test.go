package dns

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"nodelet/dns/corefile"
	"nodelet/dns/wire"
)

// script is a resolver that does what a test tells it to.
type script struct {
	addr  netip.AddrPort
	asked atomic.Int64
	// probed are health checks.
	probed atomic.Int64
	loop   atomic.Pointer[dns.HandlerFunc] // for the check for loops
	udp    atomic.Pointer[dns.HandlerFunc]
	tcp    atomic.Pointer[dns.HandlerFunc]
}

func newScript(t testing.TB, udp dns.HandlerFunc) *script {
	t.Helper()
	s := &script{addr: netip.AddrPortFrom(loopback(), testPort)}
	s.udp.Store(&udp)
	s.tcp.Store(&udp)
	for _, network := range []string{"udp", "tcp"} {
		started := make(chan struct{})
		srv := &dns.Server{Addr: s.addr.String(), Net: network, NotifyStartedFunc: func() { close(started) }}
		srv.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
			if network == "tcp" {
				(*s.tcp.Load())(w, m)
				return
			}
			if strings.HasSuffix(strings.ToLower(m.Question[0].Name), ".loop.nodelet.invalid.") {
				if loop := s.loop.Load(); loop != nil {
					(*loop)(w, m)
					return
				}
				w.WriteMsg(new(dns.Msg).SetRcode(m, dns.RcodeNameError)) // the server's own check
				return
			}
			if m.Question[0].Name == "." {
				s.probed.Add(1)
			} else {
				s.asked.Add(1)
			}
			(*s.udp.Load())(w, m)
		})
		ended := make(chan error, 1)
		go func() { ended <- srv.ListenAndServe() }()
		select {
		case <-started:
		case err := <-ended:
			t.Fatal(err)
		}
		t.Cleanup(func() { srv.Shutdown(); <-ended })
	}
	return s
}

func resolversAt(addrs ...netip.AddrPort) (out []corefile.Upstream) {
	for _, a := range addrs {
		out = append(out, corefile.Upstream{Addr: a})
	}
	return out
}

func (s *script) now(udp dns.HandlerFunc) { s.udp.Store(&udp); s.tcp.Store(&udp) }

// address answers every question with one address.
func address(ip string, ttl int) dns.HandlerFunc {
	return func(w dns.ResponseWriter, m *dns.Msg) {
		r := new(dns.Msg).SetReply(m)
		r.RecursionAvailable = true
		rr, err := dns.NewRR(fmt.Sprintf("%s %d IN A %s", m.Question[0].Name, ttl, ip))
		if err != nil {
			panic(err)
		}
		r.Answer = append(r.Answer, rr)
		w.WriteMsg(r)
	}
}

func code(rcode int, soa bool) dns.HandlerFunc {
	return func(w dns.ResponseWriter, m *dns.Msg) {
		r := new(dns.Msg).SetRcode(m, rcode)
		if soa {
			rr, _ := dns.NewRR("example.com. 300 IN SOA ns.example.com. h.example.com. 1 2 3 4 60")
			r.Ns = append(r.Ns, rr)
		}
		w.WriteMsg(r)
	}
}

func silent(dns.ResponseWriter, *dns.Msg) {}

// raw writes bytes that miekg/dns would not.
func raw(f func(reply []byte) []byte) dns.HandlerFunc {
	return func(w dns.ResponseWriter, m *dns.Msg) {
		r := new(dns.Msg).SetReply(m)
		rr, _ := dns.NewRR(m.Question[0].Name + " 60 IN A 192.0.2.66")
		r.Answer = append(r.Answer, rr)
		b, err := r.Pack()
		if err != nil {
			panic(err)
		}
		w.Write(f(b))
	}
}

func startForward(t testing.TB, upstreams ...*script) *server {
	t.Helper()
	return startPatient(t, 4*time.Second, upstreams...)
}

// startPatient gives each resolver that long to answer.
func startPatient(t testing.TB, timeout time.Duration, upstreams ...*script) *server {
	t.Helper()
	s := start(t, func(c *Config) {
		c.Limits.Timeout = timeout
		for _, u := range upstreams {
			c.Upstreams = append(c.Upstreams, corefile.Upstream{Addr: u.addr})
		}
	})
	s.sync()
	return s
}

func TestForwardAndCache(t *testing.T) {
	up := newScript(t, address("192.0.2.1", 300))
	s := startForward(t, up)
	m := s.ask(t, "udp", "WWW.Example.com", dns.TypeA)
	expect(t, m, "NOERROR 192.0.2.1")
	if got := m.Answer[0].Header().Name; got != "WWW.Example.com." {
		t.Errorf("owner is %s: the asker's case is lost", got)
	}
	if ttl := m.Answer[0].Header().Ttl; ttl != 30 {
		t.Errorf("TTL %d, want it cut to 30", ttl)
	}
	for range 3 {
		m = s.ask(t, "tcp", "www.example.com", dns.TypeA)
		expect(t, m, "NOERROR 192.0.2.1")
	}
	if m.Answer[0].Header().Name != "www.example.com." || !m.RecursionAvailable {
		t.Errorf("cached reply is wrong:\n%s", m)
	}
	if n := up.asked.Load(); n != 1 {
		t.Errorf("resolver was asked %d times", n)
	}
	// Durations are counted after the reply has gone.
	eventually(t, "four durations", func() bool { return s.Stats().Durations["."].Count == 4 })
	st := s.Stats()
	if st.CacheHits["success"] != 3 || st.CacheEntries["success"] != 1 || st.CacheMisses != 1 || st.Forwards != 1 {
		t.Errorf("stats %+v", st)
	}
	if st.Upstreams[0].Durations["NOERROR"].Count != 1 || st.Upstreams[0].Failures != 0 {
		t.Errorf("stats %+v", st)
	}
	var requests, responses uint64
	for _, c := range st.Requests {
		requests += c.Count
	}
	for _, c := range st.Responses {
		responses += c.Count
	}
	if requests != 4 || responses != 4 {
		t.Errorf("%d requests and %d responses counted: %+v", requests, responses, st)
	}
}

func TestNegativeCache(t *testing.T) {
	up := newScript(t, code(dns.RcodeNameError, true))
	s := startForward(t, up)
	for range 3 {
		m := s.ask(t, "udp", "no.example.com", dns.TypeA)
		expect(t, m, "NXDOMAIN")
		if len(m.Ns) != 1 {
			t.Errorf("no SOA in\n%s", m)
		}
	}
	up.now(code(dns.RcodeNameError, false))
	for range 3 {
		expect(t, s.ask(t, "udp", "nosoa.example.com", dns.TypeA), "NXDOMAIN")
	}
	if n := up.asked.Load(); n != 1+3 {
		t.Errorf("resolver was asked %d times, want 1 with and 3 without SOA", n)
	}
}

func TestNoResolvers(t *testing.T) {
	s := start(t, nil)
	s.sync()
	expect(t, s.ask(t, "udp", "www.example.com", dns.TypeA), "SERVFAIL")
}

func TestFailOver(t *testing.T) {
	dead, good := newScript(t, silent), newScript(t, address("192.0.2.1", 0))
	s := startPatient(t, time.Second, dead, good)
	for i := range failLimit + 3 {
		expect(t, s.ask(t, "udp", fmt.Sprintf("n%d.example.com", i), dns.TypeA), "NOERROR 192.0.2.1")
	}
	// Two questions, sent twice each, and then it is left alone for a while.
	if n := dead.asked.Load(); n != 2*failLimit {
		t.Errorf("the dead resolver got %d packets, want %d", n, 2*failLimit)
	}
	for _, bad := range []int{dns.RcodeServerFailure, dns.RcodeRefused} {
		dead.now(code(bad, false))
		s.program.Load().blocks[0].routes[0].list(time.Now())[0].until.Store(0)
		expect(t, s.ask(t, "udp", fmt.Sprintf("r%d.example.com", bad), dns.TypeA), "NOERROR 192.0.2.1")
	}
}

// TestResolverComesBack: after its time of grace one question tries a resolver
// that was down, and when it answers all use it again.
func TestResolverComesBack(t *testing.T) {
	first, second := newScript(t, silent), newScript(t, address("192.0.2.2", 0))
	s := startPatient(t, time.Second, first, second)
	for i := range failLimit {
		s.ask(t, "udp", fmt.Sprintf("n%d.example.com", i), dns.TypeA)
	}
	u := s.program.Load().blocks[0].routes[0].list(time.Now())[0]
	now := time.Now()
	if u.usable(now) {
		t.Error("usable right after it failed")
	}
	later := now.Add(downTime + time.Second)
	if !u.usable(later) || u.usable(later) {
		t.Error("want exactly one question to try it again")
	}
	first.now(address("192.0.2.1", 0))
	u.until.Store(0)
	for i := range 3 {
		expect(t, s.ask(t, "udp", fmt.Sprintf("b%d.example.com", i), dns.TypeA), "NOERROR 192.0.2.1")
	}
}

func TestAllDead(t *testing.T) {
	s := startPatient(t, 300*time.Millisecond, newScript(t, silent))
	expect(t, s.ask(t, "udp", "www.example.com", dns.TypeA), "SERVFAIL")
	if st := s.Stats(); st.ForwardErrors != 1 {
		t.Errorf("stats %+v", st)
	}
}

// TestHostileReplies feeds replies that must not be believed before one that must.
func TestHostileReplies(t *testing.T) {
	for name, spoil := range map[string]func([]byte) []byte{
		"wrong id":       func(b []byte) []byte { b[0] ^= 1; return b },
		"no response":    func(b []byte) []byte { b[2] &^= 0x80; return b },
		"wrong type":     func(b []byte) []byte { b[12+17+1] = 28; return b },
		"wrong name":     func(b []byte) []byte { b[13] ^= 1; return b },
		"cut":            func(b []byte) []byte { return b[:11] },
		"empty question": func(b []byte) []byte { b[5] = 0; return b },
	} {
		t.Run(name, func(t *testing.T) {
			up := newScript(t, nil)
			up.now(func(w dns.ResponseWriter, m *dns.Msg) {
				raw(spoil)(w, m)
				address("192.0.2.1", 60)(w, m)
			})
			s := startForward(t, up)
			expect(t, s.ask(t, "udp", "www.example.com", dns.TypeA), "NOERROR 192.0.2.1")
		})
	}
}

func TestGarbageIsServfail(t *testing.T) {
	for name, spoil := range map[string]func([]byte) []byte{
		"record runs out":    func(b []byte) []byte { return b[:len(b)-2] },
		"pointer loop":       func(b []byte) []byte { return append(b[:33], 0xC0, 33, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 1, 2, 3, 4) },
		"pointer to nowhere": func(b []byte) []byte { return append(b[:33], 0xFF, 0xFF, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 1, 2, 3, 4) },
	} {
		t.Run(name, func(t *testing.T) {
			s := startForward(t, newScript(t, raw(spoil)))
			m := s.ask(t, "udp", "www.example.com", dns.TypeA)
			if m.Rcode != dns.RcodeServerFailure || len(m.Answer) != 0 {
				t.Errorf("got\n%s", m)
			}
		})
	}
}

func TestLostCaseGoesOverTCP(t *testing.T) {
	up := newScript(t, func(w dns.ResponseWriter, m *dns.Msg) {
		m.Question[0].Name = strings.ToLower(m.Question[0].Name)
		address("192.0.2.66", 60)(w, m)
	})
	overTCP := address("192.0.2.1", 60)
	up.tcp.Store(&overTCP)
	s := startForward(t, up)
	// A name with this many letters comes back in the case it went by chance once in 2^40.
	expect(t, s.ask(t, "udp", "abcdefghijabcdefghij.abcdefghijabcdefghij.com", dns.TypeA), "NOERROR 192.0.2.1")
}

func TestTruncatedGoesOverTCP(t *testing.T) {
	up := newScript(t, func(w dns.ResponseWriter, m *dns.Msg) {
		r := new(dns.Msg).SetReply(m)
		r.Truncated = true
		w.WriteMsg(r)
	})
	var big dns.HandlerFunc = func(w dns.ResponseWriter, m *dns.Msg) {
		r := new(dns.Msg).SetReply(m)
		for i := range 100 {
			rr, _ := dns.NewRR(fmt.Sprintf("%s 60 IN A 192.0.2.%d", m.Question[0].Name, i))
			r.Answer = append(r.Answer, rr)
		}
		w.WriteMsg(r)
	}
	up.tcp.Store(&big)
	s := startForward(t, up)
	for range 2 { // fresh, then out of the cache
		if m := s.ask(t, "udp", "big.example.com", dns.TypeA); !m.Truncated || len(m.Answer) == 0 {
			t.Errorf("over UDP:\n%s", m)
		}
		if m := s.ask(t, "tcp", "big.example.com", dns.TypeA); m.Truncated || len(m.Answer) != 100 {
			t.Errorf("over TCP:\n%s", m)
		}
	}
}

func TestSameQuestionIsAskedOnce(t *testing.T) {
	release := make(chan struct{})
	up := newScript(t, func(w dns.ResponseWriter, m *dns.Msg) {
		<-release
		address("192.0.2.1", 60)(w, m)
	})
	s := start(t, func(c *Config) { c.Upstreams = resolversAt(up.addr); c.Limits.Timeout = 20 * time.Second })
	s.sync()
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() { expect(t, s.ask(t, "udp", "www.example.com", dns.TypeA), "NOERROR 192.0.2.1") })
	}
	eventually(t, "20 waiters", func() bool {
		s.forward.mu.Lock()
		defer s.forward.mu.Unlock()
		return s.forward.clients[netip.MustParseAddr("127.0.0.1")] == 20
	})
	close(release)
	all.Wait()
	if n := up.asked.Load(); n != 1 {
		t.Errorf("resolver was asked %d times", n)
	}
	s.forward.mu.Lock()
	defer s.forward.mu.Unlock()
	if n := len(s.forward.clients); n != 0 {
		t.Errorf("%d clients still counted", n)
	}
}

// TestFloodOfOneClient: a client that fills the forwarder's patience is refused,
// another one still gets its outside name, and cluster names go on.
func TestFloodOfOneClient(t *testing.T) {
	up := newScript(t, func(w dns.ResponseWriter, m *dns.Msg) {
		if strings.HasPrefix(strings.ToLower(m.Question[0].Name), "slow") {
			return
		}
		address("192.0.2.1", 60)(w, m)
	})
	s := start(t, func(c *Config) {
		c.Upstreams = resolversAt(up.addr)
		c.Limits.Timeout = 20 * time.Second
		c.Limits.ClientForwards = 50
	})
	s.sync(clusterIP("default/web", "10.96.0.5"))
	flood, err := net.DialUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 66, 6, 6)}, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(s.addr)))
	if err != nil {
		t.Fatal(err)
	}
	defer flood.Close()
	buf := make([]byte, 1500)
	refused := 0
	for i := range 200 {
		m := new(dns.Msg)
		m.SetQuestion(fmt.Sprintf("slow%d.example.com.", i), dns.TypeA)
		b, _ := m.Pack()
		if _, err := flood.Write(b); err != nil {
			t.Fatal(err)
		}
		if i < 50 {
			continue
		}
		flood.SetReadDeadline(time.Now().Add(5 * time.Second))
		n, err := flood.Read(buf)
		if err != nil {
			t.Fatalf("query %d: %v", i, err)
		}
		if wire.Rcode(buf[3]&0xF) == wire.Refused && n < 100 {
			refused++
		}
	}
	if refused != 150 {
		t.Errorf("%d queries refused, want 150", refused)
	}
	expect(t, s.ask(t, "udp", "www.example.com", dns.TypeA), "NOERROR 192.0.2.1")
	expect(t, s.ask(t, "udp", "web.default.svc.cluster.local", dns.TypeA), "NOERROR 10.96.0.5")
	began := time.Now()
	s.stop() // with 50 questions under way
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("stopping took %s", took)
	}
}

func TestExternalNameOutside(t *testing.T) {
	up := newScript(t, address("192.0.2.1", 60))
	s := startForward(t, up)
	s.sync(external("default/ext", "www.example.com"), external("default/two", "ext.default.svc.cluster.local"))
	for range 2 { // fresh, then out of the cache
		for _, network := range []string{"udp", "tcp"} {
			m := s.ask(t, network, "EXT.default.svc.cluster.local", dns.TypeA)
			expect(t, m, "NOERROR 192.0.2.1")
			if len(m.Answer) != 2 || m.Answer[0].String() != "EXT.default.svc.cluster.local.\t5\tIN\tCNAME\twww.example.com." {
				t.Errorf("got\n%s", m)
			}
			if m := s.ask(t, network, "two.default.svc.cluster.local", dns.TypeA); len(m.Answer) != 3 {
				t.Errorf("got\n%s", m)
			}
		}
	}
	up.now(code(dns.RcodeNameError, true))
	s.sync(external("default/gone", "gone.example.com"))
	if m := s.ask(t, "udp", "gone.default.svc.cluster.local", dns.TypeA); m.Rcode != dns.RcodeNameError || len(m.Answer) != 1 {
		t.Errorf("got\n%s", m)
	}
	up.now(code(dns.RcodeServerFailure, false))
	s.sync(external("default/bad", "bad.example.com"))
	expect(t, s.ask(t, "udp", "bad.default.svc.cluster.local", dns.TypeA), "SERVFAIL")
}

func TestResolverWithoutEDNS(t *testing.T) {
	up := newScript(t, func(w dns.ResponseWriter, m *dns.Msg) {
		if m.IsEdns0() != nil {
			r := new(dns.Msg).SetRcode(m, dns.RcodeFormatError)
			r.Extra = nil
			w.WriteMsg(r)
			return
		}
		address("192.0.2.1", 60)(w, m)
	})
	s := startForward(t, up)
	expect(t, s.ask(t, "udp", "www.example.com", dns.TypeA), "NOERROR 192.0.2.1")
}

func TestResolvConf(t *testing.T) {
	s := start(t, nil)
	s.sync()
	r := s.forward.host
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	list := func() string {
		r.next.Store(0)
		var all []string
		for _, u := range r.list(time.Now()) {
			all = append(all, u.c.String())
		}
		return strings.Join(all, " ")
	}
	own := s.c.ListenAddrs[0]
	for i, step := range []struct{ conf, resolved, want string }{
		{"nameserver 192.0.2.1\n# nameserver 192.0.2.9\nnameserver 2001:db8::1\nsearch x\nnameserver nonsense\n", "", "192.0.2.1:53 [2001:db8::1]:53"},
		{"nameserver 127.0.0.53\n", "", "127.0.0.53:53"},
		{"nameserver 127.0.0.53\noptions edns0\n", "nameserver 192.0.2.2\n", "192.0.2.2:53"},
		{"nameserver " + own.String() + "\nnameserver 192.0.2.33\n", "", "192.0.2.33:53"},
		{"", "", ""},
	} {
		write(r.path, step.conf)
		write(r.resolvedPath, step.resolved)
		if got := list(); got != step.want {
			t.Errorf("step %d: resolvers %q, want %q", i, got, step.want)
		}
	}
	write(r.path, "nameserver 192.0.2.4\n")
	list()
	os.Remove(r.path)
	if got := list(); got != "192.0.2.4:53" {
		t.Errorf("after the file went away: %q, want the last good list", got)
	}
}
