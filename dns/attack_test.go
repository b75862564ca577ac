package dns

import (
	"bytes"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"nodelet/dns/wire"
)

// TestHealthCheck: a resolver that is down is asked for `. NS` until it
// answers, and used again without a client's question having waited for it.
func TestHealthCheck(t *testing.T) {
	down, other := newScript(t, silent), newScript(t, address("192.0.2.2", 0))
	s := startPatient(t, 300*time.Millisecond, down, other)
	for i := range failLimit {
		expect(t, s.ask(t, "udp", string(rune('a'+i))+".example.com", dns.TypeA), "NOERROR 192.0.2.2")
	}
	failures := func() uint64 { return s.Stats().Upstreams[0].ProbeFailures }
	eventually(t, "a health check without answer", func() bool { return failures() > 0 && down.probed.Load() > 0 })
	asked := down.asked.Load()
	down.now(address("192.0.2.1", 0))
	u := s.program.Load().blocks[0].routes[0].list(time.Now())
	eventually(t, "the health check to be answered", func() bool { return u[0].fails.Load() == 0 && u[1].fails.Load() == 0 })
	if n := down.asked.Load(); n != asked {
		t.Errorf("%d questions of clients went there while it was down", n-asked)
	}
	expect(t, s.ask(t, "udp", "again.example.com", dns.TypeA), "NOERROR 192.0.2.1")
}

// TestNothingIsLearntBesides: a resolver may say what it likes of other names;
// only the question that was asked is answered by it.
func TestNothingIsLearntBesides(t *testing.T) {
	up := newScript(t, nil)
	up.now(func(w dns.ResponseWriter, m *dns.Msg) {
		r := new(dns.Msg).SetReply(m)
		if m.Question[0].Name = strings.ToLower(m.Question[0].Name); m.Question[0].Name != "evil.example." {
			address("192.0.2.1", 60)(w, m)
			return
		}
		for _, name := range []string{"evil.example.", "bank.example.", "web.default.svc.cluster.local."} {
			rr, err := dns.NewRR(name + " 60 IN A 192.0.2.66")
			if err != nil {
				panic(err)
			}
			r.Answer, r.Extra = append(r.Answer, rr), append(r.Extra, rr)
		}
		w.WriteMsg(r)
	})
	tcp := *up.udp.Load()
	up.tcp.Store(&tcp) // the case is lost above
	s := startForward(t, up)
	s.sync(clusterIP("default/web", "10.96.0.5"))
	s.ask(t, "udp", "evil.example", dns.TypeA)
	expect(t, s.ask(t, "udp", "bank.example", dns.TypeA), "NOERROR 192.0.2.1")
	expect(t, s.ask(t, "udp", "web.default.svc.cluster.local", dns.TypeA), "NOERROR 10.96.0.5")
}

// TestQuestionsCannotBeGuessed: id, port and case of letters of what goes to
// resolvers are new each time, so a forger has to guess all three.
func TestQuestionsCannotBeGuessed(t *testing.T) {
	const questions = 100
	var mu sync.Mutex
	ids, ports, cases := map[uint16]bool{}, map[int]bool{}, map[string]bool{}
	up := newScript(t, func(w dns.ResponseWriter, m *dns.Msg) {
		mu.Lock()
		ids[m.Id], ports[w.RemoteAddr().(*net.UDPAddr).Port], cases[m.Question[0].Name] = true, true, true
		mu.Unlock()
		address("192.0.2.1", 0)(w, m)
	})
	s := startForward(t, up)
	for range questions {
		s.ask(t, "udp", "a-name-of-many-letters.example.com", dns.TypeA)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(ids) < questions*9/10 || len(ports) < questions*9/10 || len(cases) < questions*9/10 {
		t.Errorf("of %d questions: %d ids, %d ports, %d spellings", questions, len(ids), len(ports), len(cases))
	}
}

// TestNoAmplification: over UDP, where senders can be forged, no reply is larger
// than the client's limit, 1232 bytes at most; what is no query is answered
// with no more than it has.
func TestNoAmplification(t *testing.T) {
	s := start(t, nil)
	s.sync(clusterIP("default/web", "10.96.0.5"))
	conn, err := net.Dial("udp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	exchangeAt := func(packet []byte) []byte { return exchange(t, conn.(*net.UDPConn), packet) }
	small := packed(t, "web.default.svc.cluster.local", dns.TypeANY, 1)
	if got := exchangeAt(small); len(got) > len(small) || got[2]&2 == 0 {
		t.Errorf("ANY: %d bytes for %d", len(got), len(small))
	}
	for name, packet := range map[string][]byte{
		"opcode":    append([]byte{0, 1, 0x28, 0}, small[4:]...),
		"questions": append([]byte{0, 1, 1, 0, 0, 9}, small[6:]...),
		"pointers":  append(bytes.Clone(small[:12]), 0xC0, 12, 0, 1, 0, 1), // a name that is itself
	} {
		if got := exchangeAt(packet); len(got) > len(packet) || got[3]&15 == dns.RcodeSuccess {
			t.Errorf("%s: %x for %x", name, got, packet)
		}
	}
	m := new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA)
	m.SetEdns0(65535, true)
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	var q wire.Query
	if q.Parse(packet) != wire.Accept || q.Limit(false) != wire.MaxUDP {
		t.Errorf("a client may ask for %d bytes", q.Limit(false))
	}
}

// FuzzCacheKey: two questions share a key exactly when one answer fits both.
func FuzzCacheKey(f *testing.F) {
	for _, name := range []string{"a.example.com.", "A.example.com.", "example.com."} {
		for _, do := range []bool{false, true} {
			m := new(dns.Msg).SetQuestion(name, dns.TypeA)
			m.SetEdns0(1232, do)
			b, err := m.Pack()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b, packed(f, name, dns.TypeA, 1))
			f.Add(b, packed(f, "b.example.com", dns.TypeAAAA, 1))
		}
	}
	f.Fuzz(func(t *testing.T, one, other []byte) {
		var a, b wire.Query
		if a.Parse(one) != wire.Accept || b.Parse(other) != wire.Accept {
			return
		}
		same := a.Type == b.Type && a.DO == b.DO && (a.Flags^b.Flags)&wire.FlagCD == 0 && bytes.Equal(a.Name(), b.Name())
		ka, kb := appendKey(nil, &a), appendKey(nil, &b)
		if bytes.Equal(ka, kb) != same || len(ka) > maxKey || len(kb) > maxKey {
			t.Fatalf("keys %x and %x of\n%x\n%x", ka, kb, one, other)
		}
	})
}
