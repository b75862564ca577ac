package ipvs

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"nodelet/internal/ipvs"
	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
)

// kernel is what steps are done to; an order that the real one would refuse fails.
type kernel struct{ *table }

func (k kernel) do(s step) error {
	v, known := k.services[s.server]
	_, real := v.real[s.real.AddrPort]
	switch s.do {
	case addAddr:
		k.addrs[s.addr] = true
	case deleteAddr:
		for v := range k.services {
			if v.Addr == s.addr {
				return fmt.Errorf("%s: %s is there", s, v)
			}
		}
		delete(k.addrs, s.addr)
	case addServer:
		if known || !k.addrs[s.server.Addr] {
			return fmt.Errorf("%s: known %t, its address there %t", s, known, k.addrs[s.server.Addr])
		}
		k.services[s.server] = service{s.scheduler, map[netip.AddrPort]ipvs.RealServer{}}
	case deleteServer:
		delete(k.services, s.server)
	case setScheduler:
		v.scheduler = s.scheduler
		k.services[s.server] = v
	case addReal, setWeight:
		if !known || real == (s.do == addReal) {
			return fmt.Errorf("%s: server there %t, real server there %t", s, known, real)
		}
		s.real.Connections = v.real[s.real.AddrPort].Connections
		v.real[s.real.AddrPort] = s.real
	case deleteReal:
		if !real {
			return fmt.Errorf("%s: it is not there", s)
		}
		delete(v.real, s.real.AddrPort)
	}
	return nil
}

func anyReal(j int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, 0, byte(j)}), 80)
}

// anyTable draws a small table; connections say how many a real server may have.
func anyTable(t *rapid.T, name string, connections int) *table {
	out := newTable()
	for i := range rapid.IntRange(0, 3).Draw(t, name) {
		a := netip.AddrFrom4([4]byte{10, 96, 0, byte(i)})
		out.addrs[a] = true
		for _, proto := range []uint8{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
			v := ipvs.VirtualServer{Addr: a, Proto: proto, Port: 80}
			for j := range 3 {
				if proto == unix.IPPROTO_UDP && rapid.Bool().Draw(t, name+" serves") {
					out.serving[v] = append(out.serving[v], anyReal(j))
				}
			}
			if !rapid.Bool().Draw(t, name+" has server") {
				continue
			}
			s := service{rapid.SampledFrom([]string{"rr", "lc"}).Draw(t, name+" scheduler"), map[netip.AddrPort]ipvs.RealServer{}}
			for j := range 3 {
				if rapid.Bool().Draw(t, name+" has real") {
					r := anyReal(j)
					s.real[r] = ipvs.RealServer{AddrPort: r, Weight: 1, Connections: rapid.IntRange(0, connections).Draw(t, name+" connections")}
				}
			}
			out.services[v] = s
		}
	}
	return out
}

// TestDiff: the steps lead from any table to any other, in an order that the
// kernel takes; what has connections gets weight 0 and stays, for UDP as long
// as it serves.
func TestDiff(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		have, want := anyTable(t, "have", rapid.IntRange(0, 1).Draw(t, "busy")), anyTable(t, "want", 0)
		open := map[string]bool{}
		for v, s := range have.services {
			for a, r := range s.real {
				if r.Connections > 0 && (v.Proto == unix.IPPROTO_TCP || slices.Contains(want.serving[v], a)) {
					open[v.String()+a.String()] = true
				}
			}
		}
		k := kernel{have}
		steps, draining := diff(have, want)
		for _, s := range steps {
			if err := k.do(s); err != nil {
				t.Fatalf("%v in %v", err, steps)
			}
		}
		left := 0
		for v, s := range k.services {
			for a, r := range s.real {
				_, wanted := want.services[v].real[a]
				switch {
				case wanted && r.Weight != 1:
					t.Fatalf("%s of %s has weight %d", a, v, r.Weight)
				case !wanted && (r.Weight != 0 || !open[v.String()+a.String()]):
					t.Fatalf("%s of %s is left: %+v", a, v, r)
				case !wanted:
					left++
				}
				delete(open, v.String()+a.String())
			}
			if len(s.real) == 0 && len(want.services[v].real) == 0 {
				if _, ok := want.services[v]; !ok {
					t.Fatalf("%s is left", v)
				}
			}
		}
		if len(open) > 0 {
			t.Fatalf("connections were cut: %v", maps.Keys(open))
		}
		if draining != (left > 0) {
			t.Fatalf("draining %t with %d left", draining, left)
		}
		if left == 0 && (k.String() != want.String() || !maps.Equal(k.addrs, want.addrs)) {
			t.Fatalf("got\n%s\nwant\n%s", k, want)
		}
		if again, _ := diff(k.table, want); len(again) > 0 {
			t.Fatalf("not settled: %v", again)
		}
	})
}

// TestKilledBetweenSteps: a daemon that is killed after any step leaves what
// the next one, which only sees the kernel, brings to the same end.
func TestKilledBetweenSteps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		have, want := anyTable(t, "have", 0), anyTable(t, "want", 0)
		k := kernel{have}
		for {
			steps, _ := diff(k.table, want)
			if len(steps) == 0 {
				break
			}
			for _, s := range steps[:rapid.IntRange(1, len(steps)).Draw(t, "killed after")] {
				if err := k.do(s); err != nil {
					t.Fatalf("%v in %v", err, steps)
				}
			}
		}
		if k.String() != want.String() || !maps.Equal(k.addrs, want.addrs) {
			t.Fatalf("got\n%s\nwant\n%s", k, want)
		}
	})
}

// TestCompile: what IPVS is asked for, and what it is not.
func TestCompile(t *testing.T) {
	w := lbtest.MustParse(`node n1 192.168.7.1 fd07::1
service d/a LoadBalancer 10.96.0.1,fd96::1 p:80/TCP[30001] q:53/UDP lb=1.2.3.4
slice d/a of d/a p:8080/TCP q:8053/UDP 10.244.1.2=ready@n1 10.244.2.2=ready@n2
slice d/a6 of d/a p:8080/TCP fd44:1::2=ready@n1
service d/sticky ClusterIP 10.96.0.2 p:80/TCP affinity=1h
slice d/sticky of d/sticky p:8080/TCP 10.244.1.2=ready@n1
service d/external LoadBalancer 10.96.0.3 p:80/TCP[30003] lb=1.2.3.5 external=local
slice d/external of d/external p:8080/TCP 10.244.1.2=ready@n1
service d/host ClusterIP 10.96.0.4 p:443/TCP
slice d/host of d/host p:6443/TCP 192.168.7.1=ready
service d/none ClusterIP 10.96.0.5 p:80/TCP
`)
	s := lb.Compile(&lb.Config{NodeName: "n1", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd44::/16")}}, w.Snapshot())
	want := strings.TrimSpace(`
1.2.3.4:53/17 rr 10.244.1.2:8053=1 10.244.2.2:8053=1
1.2.3.4:80/6 rr 10.244.1.2:8080=1 10.244.2.2:8080=1
10.96.0.1:53/17 rr 10.244.1.2:8053=1 10.244.2.2:8053=1
10.96.0.1:80/6 rr 10.244.1.2:8080=1 10.244.2.2:8080=1
10.96.0.3:80/6 rr 10.244.1.2:8080=1
[fd96::1]:80/6 rr [fd44:1::2]:8080=1`)
	if got := compile(s, "rr", true).String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := compile(s, "rr", true); !got.addrs[netip.MustParseAddr("10.96.0.5")] || got.addrs[netip.MustParseAddr("10.96.0.2")] {
		t.Errorf("addresses %v: without endpoints a frontend keeps its own, another mode's has none", got.addrs)
	}
	if got := compile(s, "rr", false); strings.Contains(got.String(), "fd96") || got.addrs[netip.MustParseAddr("fd96::1")] {
		t.Errorf("IPv6 without IPv6: %s", got)
	}
}
