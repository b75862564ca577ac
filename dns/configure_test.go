package dns

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"nodelet/dns/corefile"
	"nodelet/internal/model"
)

var corefileAt = model.Key{Namespace: "kube-system", Name: "coredns"}

// load puts a Corefile into the ConfigMap and waits until it was looked at.
func (s *server) load(text string) {
	c := &model.Config{ConfigKey: model.ConfigKey{Kind: model.ConfigMap, Key: corefileAt}, Data: map[string][]byte{"Corefile": []byte(text)}}
	c.Missing = text == ""
	s.writers.Configs.Set(c.ConfigKey, c)
	s.settle()
}

func startConfigured(t *testing.T, services ...*model.Service) *server {
	s := start(t, func(c *Config) { c.Corefile = corefileAt })
	s.sync(services...)
	return s
}

func TestStubDomainsAndReload(t *testing.T) {
	root, corp := newScript(t, address("192.0.2.1", 300)), newScript(t, address("192.0.2.2", 300))
	s := startConfigured(t, clusterIP("default/web", "10.96.0.5"))
	at := func(u *script) string { return strings.Split(u.addr.String(), ":")[0] + ":10053" }
	s.load(fmt.Sprintf(`.:53 {
		kubernetes cluster.local in-addr.arpa ip6.arpa {
			pods insecure
			fallthrough in-addr.arpa ip6.arpa
			ttl 17
		}
		forward . %s {
			except lab.corp.example
		}
		cache 30
	}
	corp.example {
		forward . %s
	}`, at(root), at(corp)))
	expect(t, s.ask(t, "udp", "www.example.com", dns.TypeA), "NOERROR 192.0.2.1")
	expect(t, s.ask(t, "udp", "a.Corp.example", dns.TypeA), "NOERROR 192.0.2.2")
	expect(t, s.ask(t, "udp", "xcorp.example", dns.TypeA), "NOERROR 192.0.2.1")
	if m := s.ask(t, "udp", "web.default.svc.cluster.local", dns.TypeA); m.Answer[0].Header().Ttl != 17 {
		t.Errorf("the zone's TTL is not that of the Corefile:\n%s", m)
	}
	if a, b := corp.asked.Load(), s.ask(t, "udp", "a.corp.example", dns.TypeA); b.Rcode != 0 || corp.asked.Load() != a+1 {
		t.Error("a block without cache answered from a cache")
	}

	// A bad one is refused with its line, and what was in force stays.
	s.load(".:53 {\n\tforward . 192.0.2.9\n\tautopath @kubernetes\n}\n")
	expect(t, s.ask(t, "udp", "b.corp.example", dns.TypeA), "NOERROR 192.0.2.2")
	if err := s.Health().Error; !strings.Contains(err, "Corefile:3: plugin \"autopath\" is not supported") {
		t.Errorf("status says %q", err)
	}
	// Another domain than the node's is no typing error that may pass.
	s.load(".:53 {\n\tkubernetes other.local\n}\n")
	if err := s.Health().Error; !strings.Contains(err, "--cluster-domain") {
		t.Errorf("status says %q", err)
	}
	// Without the ConfigMap the server is as it was without one.
	s.load("")
	if m := s.ask(t, "udp", "web.default.svc.cluster.local", dns.TypeA); m.Answer[0].Header().Ttl != 5 || s.Health().Error != "" {
		t.Errorf("after the ConfigMap went away (%q):\n%s", s.Health().Error, m)
	}
	expect(t, s.ask(t, "udp", "c.corp.example", dns.TypeA), "SERVFAIL")
}

func TestHostsRewriteTemplate(t *testing.T) {
	up := newScript(t, func(w dns.ResponseWriter, m *dns.Msg) {
		if strings.EqualFold(m.Question[0].Name, "new.example.com.") {
			address("192.0.2.7", 60)(w, m)
			return
		}
		code(dns.RcodeNameError, true)(w, m)
	})
	s := startConfigured(t, clusterIP("default/web", "10.96.0.5"))
	s.load(fmt.Sprintf(`. {
		rewrite name old.example.com new.example.com
		rewrite name regex (.*)\.my\.example {1}.default.svc.cluster.local
		template IN AAAA v4only.example { 
			rcode NOERROR
		}
		template IN A ip.example {
			match "^ip-(?P<a>[0-9]*)-(?P<b>[0-9]*)[.]ip[.]example[.]$"
			answer "{{ .Name }} 60 IN A 192.0.{{ .Group.a }}.{{ .Group.b }}"
			fallthrough
		}
		template IN A never.example {
			match "^only[.]"
			answer "{{ .Name }} 60 IN A 192.0.2.99"
		}
		hosts {
			192.0.2.10 db.example.org
			2001:db8::10 db.example.org
			fallthrough
		}
		kubernetes cluster.local
		cache 30
		forward . %s
	}`, up.addr))
	for _, network := range []string{"udp", "tcp"} {
		for range 2 { // fresh, then out of the cache
			m := s.ask(t, network, "OLD.example.com", dns.TypeA)
			expect(t, m, "NOERROR 192.0.2.7")
			if m.Answer[0].Header().Name != "OLD.example.com." {
				t.Errorf("the reply is not to the question:\n%s", m)
			}
		}
		expect(t, s.ask(t, network, "web.my.example", dns.TypeA), "NOERROR 10.96.0.5")
		expect(t, s.ask(t, network, "nope.my.example", dns.TypeA), "NXDOMAIN")
		expect(t, s.ask(t, network, "x.v4only.example", dns.TypeAAAA), "NOERROR")
		expect(t, s.ask(t, network, "ip-2-33.ip.example", dns.TypeA), "NOERROR 192.0.2.33")
		expect(t, s.ask(t, network, "ip-2-999.ip.example", dns.TypeA), "SERVFAIL")
		expect(t, s.ask(t, network, "other.ip.example", dns.TypeA), "NXDOMAIN")
		expect(t, s.ask(t, network, "other.never.example", dns.TypeA), "NXDOMAIN")
		expect(t, s.ask(t, network, "db.example.org", dns.TypeA), "NOERROR 192.0.2.10")
		expect(t, s.ask(t, network, "db.example.org", dns.TypeAAAA), "NOERROR 2001:db8::10")
		expect(t, s.ask(t, network, "db.example.org", dns.TypeTXT), "NOERROR")
		if m := s.ask(t, network, "10.2.0.192.in-addr.arpa", dns.TypePTR); len(m.Answer) != 1 || m.Answer[0].(*dns.PTR).Ptr != "db.example.org." {
			t.Errorf("reverse:\n%s", m)
		}
		expect(t, s.ask(t, network, "web.default.svc.cluster.local", dns.TypeA), "NOERROR 10.96.0.5")
	}
}

func TestRewriteTypeAndTTL(t *testing.T) {
	up := newScript(t, address("192.0.2.7", 20))
	s := startConfigured(t, clusterIP("default/web", "10.96.0.5"))
	s.load(fmt.Sprintf(`. {
		rewrite continue type MX A
		rewrite ttl suffix .short.example 3-7
		rewrite ttl long.example 25-
		rewrite ttl never.example 0
		rewrite name web.example web.default.svc.cluster.local
		kubernetes cluster.local
		cache 30
		forward . %s
	}`, up.addr))
	for _, network := range []string{"udp", "tcp"} {
		for name, ttl := range map[string]uint32{"a.short.example": 7, "long.example": 25, "never.example": 0, "web.example": 5} {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeMX} {
				m := s.ask(t, network, name, qtype)
				if len(m.Answer) != 1 || m.Answer[0].Header().Rrtype != dns.TypeA || m.Answer[0].Header().Ttl != ttl || m.Question[0].Qtype != qtype {
					t.Errorf("%s, want the TTL %d:\n%s", name, ttl, m)
				}
			}
		}
	}
	s.load(". {\n rewrite type NOSUCH A\n forward . 192.0.2.1\n}")
	if err := s.configProblem(); err == nil || !strings.Contains(err.Error(), "NOSUCH") {
		t.Errorf("an unknown type: %v", err)
	}
}

func TestPolicies(t *testing.T) {
	list := []*upstream{}
	for i := range 3 {
		list = append(list, newUpstream(corefile.Upstream{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 53)}))
	}
	firsts := func(p corefile.Policy) (n [3]int) {
		r := &route{zone: rootZone, fixed: list, policy: p}
		for range 300 {
			order := r.order(time.Now())
			if len(order) != 3 {
				t.Fatalf("%s: %d of 3 resolvers are asked", p, len(order))
			}
			n[order[0].c.Addr.Addr().As4()[3]]++
		}
		return n
	}
	if n := firsts(corefile.Sequential); n != [3]int{300, 0, 0} {
		t.Errorf("sequential: %v", n)
	}
	if n := firsts(corefile.RoundRobin); n != [3]int{100, 100, 100} {
		t.Errorf("round_robin: %v", n)
	}
	if n := firsts(corefile.Random); n[0] < 50 || n[1] < 50 || n[2] < 50 {
		t.Errorf("random: %v", n)
	}
	list[0].looping.Store(true)
	if order := (&route{zone: rootZone, fixed: list}).order(time.Now()); len(order) != 2 {
		t.Errorf("a resolver that leads back here is asked")
	}
}

// TestLoop: a resolver that asks us again is found at the start, and then left alone.
func TestLoop(t *testing.T) {
	addr := loopback()
	s := &server{addr: netip.AddrPortFrom(addr, testPort).String()}
	back := newScript(t, silent)
	loop := dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
		if r, _, err := new(dns.Client).Exchange(m, s.addr); err == nil {
			w.WriteMsg(r)
		}
	})
	back.loop.Store(&loop)
	good := newScript(t, address("192.0.2.1", 0))
	d := start(t, func(c *Config) {
		c.ListenAddrs = []netip.Addr{addr}
		c.Upstreams = resolversAt(back.addr, good.addr)
	})
	d.sync()
	eventually(t, "the loop to be found", func() bool { return d.forward.fixed(resolversAt(back.addr))[0].looping.Load() })
	asked := back.asked.Load()
	expect(t, d.ask(t, "udp", "www.example.com", dns.TypeA), "NOERROR 192.0.2.1")
	if back.asked.Load() != asked {
		t.Error("the resolver that loops was asked")
	}
}

func TestServeStale(t *testing.T) {
	up := newScript(t, address("192.0.2.1", 1))
	s := startPatient(t, 200*time.Millisecond, up)
	expect(t, s.ask(t, "udp", "www.example.com", dns.TypeA), "NOERROR 192.0.2.1")
	up.now(silent)
	time.Sleep(time.Until(s.cached(t, "www.example.com").expires)) // its TTL of one second
	m := s.ask(t, "udp", "www.example.com", dns.TypeA)
	expect(t, m, "NOERROR 192.0.2.1")
	if m.Answer[0].Header().Ttl != staleTTL {
		t.Errorf("TTL %d, want %d", m.Answer[0].Header().Ttl, staleTTL)
	}
	n := up.asked.Load()
	expect(t, s.ask(t, "udp", "www.example.com", dns.TypeA), "NOERROR 192.0.2.1")
	if up.asked.Load() != n {
		t.Error("resolvers that have just failed were asked for an answer that is at hand")
	}
	expect(t, s.ask(t, "udp", "new.example.com", dns.TypeA), "SERVFAIL")
}

// cached gives the kept answer for an A query.
func (s *server) cached(t *testing.T, name string) *message {
	t.Helper()
	to, err := suffixOf(name)
	if err != nil {
		t.Fatal(err)
	}
	key := append([]byte{0, byte(dns.TypeA), 0}, to.name...)
	m := s.program.Load().cache.get(key, time.Now())
	if m == nil {
		t.Fatalf("%s is not in the cache", name)
	}
	return m
}

// TestPrefetch: a name that is asked for often is asked for again before its answer runs out, by nobody's waiting.
func TestPrefetch(t *testing.T) {
	up := newScript(t, address("192.0.2.1", 300))
	s := startForward(t, up)
	expect(t, s.ask(t, "udp", "www.example.com", dns.TypeA), "NOERROR 192.0.2.1")
	m := s.cached(t, "www.example.com")
	for range 5 {
		s.ask(t, "udp", "www.example.com", dns.TypeA)
	}
	if n := up.asked.Load(); n != 1 {
		t.Fatalf("asked %d times although the answer is fresh", n)
	}
	soon := message{records: m.records, counts: m.counts, stored: m.stored, expires: m.expires, gone: m.gone, refreshAt: time.Now(), refreshHits: 2}
	key := append([]byte{0, byte(dns.TypeA), 0}, "\x03www\x07example\x03com\x00"...)
	s.program.Load().cache.put(key, &soon)
	for range 5 {
		expect(t, s.ask(t, "udp", "www.example.com", dns.TypeA), "NOERROR 192.0.2.1")
	}
	eventually(t, "the refresh", func() bool { return s.cached(t, "www.example.com") != &soon })
	if n := up.asked.Load(); n != 2 {
		t.Errorf("asked %d times, want once more", n)
	}
}

func TestIPv6Upstream(t *testing.T) {
	conn, err := net.ListenPacket("udp6", "[::1]:0")
	if err != nil {
		t.Skipf("no IPv6 here: %v", err)
	}
	srv := &dns.Server{PacketConn: conn, Handler: address("192.0.2.6", 60)}
	ended := make(chan error, 1)
	go func() { ended <- srv.ActivateAndServe() }()
	t.Cleanup(func() { srv.Shutdown(); <-ended })
	s := start(t, func(c *Config) { c.Upstreams = resolversAt(netip.MustParseAddrPort(conn.LocalAddr().String())) })
	s.sync()
	expect(t, s.ask(t, "udp", "www.example.com", dns.TypeA), "NOERROR 192.0.2.6")
}

// TestTLSUpstream: questions go over one connection, and only to who has the right certificate.
func TestTLSUpstream(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"dns.example"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan struct{}, 100)
	inner, err := net.Listen("tcp", netip.AddrPortFrom(loopback(), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	l := tls.NewListener(counting{inner, accepted}, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	srv := &dns.Server{Listener: l, Handler: address("192.0.2.8", 0)}
	ended := make(chan error, 1)
	go func() { ended <- srv.ActivateAndServe() }()
	t.Cleanup(func() { srv.Shutdown(); <-ended })

	roots := x509.NewCertPool()
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots.AddCert(parsed)
	for name, want := range map[string]string{"dns.example": "NOERROR 192.0.2.8", "evil.example": "SERVFAIL"} {
		up := corefile.Upstream{Addr: netip.MustParseAddrPort(inner.Addr().String()), TLS: true, ServerName: name}
		s := start(t, func(c *Config) { c.Upstreams, c.TLSRoots = []corefile.Upstream{up}, roots })
		s.sync()
		for i := range 5 {
			expect(t, s.ask(t, "udp", fmt.Sprintf("n%d.example.com", i), dns.TypeA), want)
		}
		if n := len(accepted); name == "dns.example" && n > 2 {
			t.Errorf("%d connections for five questions one after the other", n)
		}
		for len(accepted) > 0 {
			<-accepted
		}
	}
}

type counting struct {
	net.Listener
	accepted chan struct{}
}

func (c counting) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.accepted <- struct{}{}
	}
	return conn, err
}

// TestForceTCP: UDP is not tried where the Corefile says so.
func TestForceTCP(t *testing.T) {
	up := newScript(t, silent)
	overTCP := address("192.0.2.5", 60)
	up.tcp.Store(&overTCP)
	s := startConfigured(t)
	s.load(fmt.Sprintf(". {\n forward . %s {\n force_tcp\n }\n}", up.addr))
	expect(t, s.ask(t, "udp", "www.example.com", dns.TypeA), "NOERROR 192.0.2.5")
	if n := up.asked.Load(); n != 0 {
		t.Errorf("asked %d times over UDP", n)
	}
}
