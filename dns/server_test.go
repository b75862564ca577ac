package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"nodelet/internal/model"
)

func packed(t testing.TB, name string, qtype, id uint16) []byte {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), qtype)
	m.Id = id
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func framed(msgs ...[]byte) []byte {
	var b []byte
	for _, m := range msgs {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(m))), m...)
	}
	return b
}

func (s *server) dialTCP(t testing.TB) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	return conn
}

func readFrame(conn net.Conn) (*dns.Msg, error) {
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, b); err != nil {
		return nil, err
	}
	m := new(dns.Msg)
	return m, m.Unpack(b)
}

// expectClosed waits for the server to close the connection.
func expectClosed(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection is still open (%v)", err)
	}
}

func TestMalformedPackets(t *testing.T) {
	s := start(t, nil)
	s.sync(clusterIP("default/web", "10.96.0.5"))
	conn, err := net.Dial("udp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	good := packed(t, "web.default.svc.cluster.local", dns.TypeA, 7)
	response := append([]byte{}, good...)
	response[2] |= 0x80
	chaos := append([]byte{}, good...)
	chaos[len(chaos)-1] = dns.ClassCHAOS
	for _, c := range []struct {
		packet []byte
		rcode  int // -1: no reply
	}{
		{[]byte{}, -1},
		{[]byte{1, 2, 3}, -1},
		{response, -1},
		{good[:20], dns.RcodeFormatError},
		{append(good[:12:12], make([]byte, 4000)...), dns.RcodeRefused}, // the root, type 0, class 0
		{chaos, dns.RcodeRefused},
		{good, dns.RcodeSuccess},
	} {
		if _, err := conn.Write(c.packet); err != nil {
			t.Fatal(err)
		}
		if c.rcode < 0 {
			continue // the next reply is another packet's, or this one was answered wrongly
		}
		conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		buf := make([]byte, 2000)
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatalf("%x: %v", c.packet, err)
		}
		if got := int(buf[3] & 0xF); got != c.rcode {
			t.Errorf("%x: rcode %d, want %d in %x", c.packet, got, c.rcode, buf[:n])
		}
	}
	if n := s.Stats().Dropped; n != 3 {
		t.Errorf("%d packets dropped, want 3", n)
	}
}

func TestTCPPipelining(t *testing.T) {
	release := make(chan struct{})
	up := newScript(t, func(w dns.ResponseWriter, m *dns.Msg) {
		<-release
		address("192.0.2.1", 60)(w, m)
	})
	s := start(t, func(c *Config) { c.Upstreams = resolversAt(up.addr); c.Limits.Timeout = 20 * time.Second })
	s.sync(clusterIP("default/web", "10.96.0.5"))
	conn := s.dialTCP(t)
	// A slow outside name first, then many cluster names in one segment.
	out := framed(packed(t, "www.example.com", dns.TypeA, 1000))
	for id := range uint16(40) {
		out = append(out, framed(packed(t, "web.default.svc.cluster.local", dns.TypeA, id))...)
	}
	if _, err := conn.Write(out); err != nil {
		t.Fatal(err)
	}
	for id := range uint16(40) {
		m, err := readFrame(conn)
		if err != nil || m.Id != id {
			t.Fatalf("reply %d: %v, %v", id, m, err)
		}
		expect(t, m, "NOERROR 10.96.0.5")
	}
	close(release)
	m, err := readFrame(conn)
	if err != nil || m.Id != 1000 {
		t.Fatalf("late reply: %v, %v", m, err)
	}
	expect(t, m, "NOERROR 192.0.2.1")
}

func TestTCPLimits(t *testing.T) {
	s := start(t, func(c *Config) {
		c.Limits.TCPClientConns, c.Limits.TCPConns = 3, 5
		c.Limits.TCPIdle = 300 * time.Millisecond
	})
	s.sync(clusterIP("default/web", "10.96.0.5"))
	query := framed(packed(t, "web.default.svc.cluster.local", dns.TypeA, 1))
	answers := func(conn net.Conn) bool {
		conn.Write(query)
		_, err := readFrame(conn)
		return err == nil
	}
	var held []net.Conn
	for range 3 {
		held = append(held, s.dialTCP(t))
		if !answers(held[len(held)-1]) {
			t.Fatal("a connection within the limit is not served")
		}
	}
	if conn := s.dialTCP(t); answers(conn) {
		t.Error("a connection above the client's limit is served")
	}
	// Another client has its own share.
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 77, 7, 7)}}
	other, err := d.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if !answers(other) {
		t.Error("another client is not served")
	}
	// Silence ends a connection, also in the middle of a message.
	held[0].Write(query[:5])
	for _, conn := range held {
		expectClosed(t, conn)
	}
	if conn := s.dialTCP(t); !answers(conn) {
		t.Error("no connection to be had after the others ended")
	}
	for name, bad := range map[string][]byte{
		"longer than any query": {0xFF, 0xFF, 1, 2, 3},
		"no dns at all":         framed([]byte("GET / HTTP/1.1\r\n\r\n")[:8]),
		"a response":            framed(append([]byte{0, 1, 0x80}, make([]byte, 20)...)),
	} {
		conn := s.dialTCP(t)
		conn.Write(bad)
		expectClosed(t, conn)
		_ = name
	}
}

// headless makes a headless Service with n endpoints.
func headless(name string, n int) (*model.Service, *model.Slice) {
	key := model.ParseKey(name)
	svc := &model.Service{Key: key, Headless: true}
	sl := &model.Slice{Key: model.Key{Namespace: key.Namespace, Name: key.Name + "-a"}, Service: key}
	sl.Ports = []model.SlicePort{{Name: "http", Protocol: model.TCP, Port: 80}}
	for i := range n {
		sl.Endpoints = append(sl.Endpoints, model.Endpoint{Ready: true, Addr: netip.AddrFrom4([4]byte{10, 244, byte(i >> 8), byte(i)})})
	}
	return svc, sl
}

func TestLargeAnswers(t *testing.T) {
	s := start(t, nil)
	s.sync()
	svc, sl := headless("default/big", 5000)
	s.writers.Services.Set(svc.Key, svc)
	s.writers.Slices.Set(sl.Key, sl)
	s.settle()
	for _, qtype := range []uint16{dns.TypeA, dns.TypeSRV} {
		if m := s.ask(t, "udp", "big.default.svc.cluster.local", qtype); !m.Truncated || len(m.Answer) == 0 {
			t.Errorf("over UDP:\n%s", m)
		}
		m := s.ask(t, "tcp", "big.default.svc.cluster.local", qtype)
		if m.Rcode != dns.RcodeSuccess || len(m.Answer) < 700 {
			t.Errorf("over TCP: %s, %d answers", dns.RcodeToString[m.Rcode], len(m.Answer))
		}
	}
}

// TestAnyOverTCPOnly: a forged sender gets no more bytes than the query had.
func TestAnyOverTCPOnly(t *testing.T) {
	up := newScript(t, address("192.0.2.1", 60))
	s := startForward(t, up)
	s.sync(clusterIP("default/web", "10.96.0.5"))
	for _, name := range []string{"www.example.com", "web.default.svc.cluster.local"} {
		m := s.ask(t, "udp", name, dns.TypeANY)
		if !m.Truncated || len(m.Answer)+len(m.Ns) > 0 {
			t.Errorf("ANY %s over UDP:\n%s", name, m)
		}
		if m := s.ask(t, "tcp", name, dns.TypeANY); m.Truncated || m.Rcode != dns.RcodeSuccess {
			t.Errorf("ANY %s over TCP:\n%s", name, m)
		}
	}
}

// brokenHost has no address to give.
type brokenHost struct{}

func (brokenHost) Observe(context.Context) ([]string, error) { return nil, nil }
func (brokenHost) ApplyAddrs(context.Context) ([]string, error) {
	return nil, errors.New("no permission")
}
func (brokenHost) ApplyRules(context.Context) ([]string, error) {
	return nil, errors.New("no nftables")
}
func (brokenHost) Remove(context.Context) error { return nil }

// TestNotReadyWithoutAddress: the sockets open all the same, but nobody reaches them.
func TestNotReadyWithoutAddress(t *testing.T) {
	s := start(t, nil)
	s.sync()
	s.stop()
	c := s.c
	c.Link = "lo"
	d, err := New(c, Deps{Store: s.store, Log: discard(), Host: brokenHost{}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	eventually(t, "the reason", func() bool {
		err := d.Ready()
		return err != nil && strings.Contains(err.Error(), "no permission")
	})
}

// TestBugIsSurvived: a query that meets a bug is dropped, the next one is answered.
func TestBugIsSurvived(t *testing.T) {
	s := start(t, nil)
	s.sync(clusterIP("default/web", "10.96.0.5"))
	bug := func(r *request) ([]byte, verdict) {
		if r.q.Type == 65280 {
			panic("bug")
		}
		return nil, next
	}
	s.stop()
	d, err := New(s.c, Deps{Store: s.store, Log: discard()})
	if err != nil {
		t.Fatal(err)
	}
	d.chain = append([]step{bug}, d.chain...)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	s.DNS = d
	s.settleZone(t)
	conn, err := net.Dial("udp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 10 {
		conn.Write(packed(t, "web.default.svc.cluster.local", 65280, 1))
	}
	eventually(t, "the bug to be met", func() bool { return d.Stats().Panics == 10 })
	expect(t, s.ask(t, "udp", "web.default.svc.cluster.local", dns.TypeA), "NOERROR 10.96.0.5")
	expect(t, s.ask(t, "tcp", "web.default.svc.cluster.local", dns.TypeA), "NOERROR 10.96.0.5")
}

func TestRestartOnTheSameAddress(t *testing.T) {
	s := start(t, nil)
	s.sync(clusterIP("default/web", "10.96.0.5"))
	for range 5 {
		s.stop()
		s = startOn(t, s.c, s.store, s.writers)
		s.settleZone(t)
		expect(t, s.ask(t, "udp", "web.default.svc.cluster.local", dns.TypeA), "NOERROR 10.96.0.5")
	}
}

// settleZone waits for a zone that is built from the store as it is: Applied may be an earlier run's.
func (s *server) settleZone(t testing.TB) {
	t.Helper()
	eventually(t, "the zone", func() bool { return s.Ready() == nil && s.Zone().Revision() >= s.store.Snapshot().Revision })
}

func TestBadConfiguration(t *testing.T) {
	good := DefaultConfig("cluster.local", netip.MustParseAddr("10.96.0.10"))
	for want, change := range map[string]func(*Config){
		"no address":      func(c *Config) { c.ListenAddrs = nil },
		"0.0.0.0":         func(c *Config) { c.ListenAddrs = []netip.Addr{netip.IPv4Unspecified()} },
		"224.0.0.1":       func(c *Config) { c.ListenAddrs = []netip.Addr{netip.MustParseAddr("224.0.0.1")} },
		"cluster domain":  func(c *Config) { c.ClusterDomain = "" },
		"a..b":            func(c *Config) { c.ClusterDomain = "a..b" },
		"128 characters":  func(c *Config) { c.ClusterDomain = strings.Repeat("abcdefghi.", 14) },
		"want a domain n": func(c *Config) { c.ClusterDomain = strings.Repeat("a", 64) },
	} {
		c := good
		change(&c)
		if _, err := New(c, Deps{Log: discard()}); err == nil || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: error is %v", want, err)
		}
	}
}

// TestQueryLog: of ten queries every fifth is logged.
func TestQueryLog(t *testing.T) {
	s := start(t, func(c *Config) { c.LogEvery = 5 })
	s.sync(clusterIP("default/web", "10.96.0.5"))
	s.stop()
	var lines strings.Builder
	s.log = slog.New(slog.NewTextHandler(&lines, nil))
	r := &request{client: netip.MustParseAddrPort("10.244.0.5:4711"), stats: &stats{}}
	for range 10 {
		s.handle(r, packed(t, "web.default.svc.cluster.local", dns.TypeA, 1))
	}
	if n := strings.Count(lines.String(), "client=10.244.0.5:4711 name=web.default.svc.cluster.local. type=A tcp=false answer=NOERROR"); n != 2 {
		t.Errorf("%d lines of 10 queries:\n%s", n, lines.String())
	}
}

// TestQueriesDoNotAllocate: from the packet to the reply, for names of the
// cluster and for outside names that are kept.
func TestQueriesDoNotAllocate(t *testing.T) {
	up := newScript(t, address("192.0.2.1", 300))
	s := startForward(t, up)
	s.sync(clusterIP("default/web", "10.96.0.5"))
	s.ask(t, "udp", "www.example.com", dns.TypeA) // into the cache
	r := &request{client: netip.MustParseAddrPort("10.244.0.5:4711"), stats: &stats{}, now: time.Now()}
	out := make([]byte, 0, 1<<16)
	for name, qtype := range map[string]uint16{
		"web.default.svc.cluster.local": dns.TypeA, "_http._tcp.web.default.svc.cluster.local": dns.TypeSRV,
		"absent.default.svc.cluster.local": dns.TypeAAAA, "5.0.96.10.in-addr.arpa": dns.TypePTR, "www.example.com": dns.TypeA,
	} {
		packet := packed(t, name, qtype, 1)
		n := testing.AllocsPerRun(1000, func() {
			r.out = out
			if _, v := s.handle(r, packet); v != done {
				t.Fatal(v)
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
