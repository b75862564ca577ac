package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"nodelet/cni/linkplan"
)

var same = cmp.Options{cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })}

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// TestLaws walks random histories of ADD, repeated ADD, DEL and GC, with the
// state going through its text form now and then, and checks the invariants
// after every step.
func TestLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ranges := rapid.SampledFrom([][]netip.Prefix{
			prefixes("10.244.3.0/24"), prefixes("10.244.3.0/29"), prefixes("10.244.3.4/31"), prefixes("10.244.3.4/32"),
			prefixes("fd00:10::/64"), prefixes("10.244.3.0/28", "fd00:10::/124"), prefixes("0.0.0.0/0"), prefixes("::/0"),
		}).Draw(t, "ranges")
		var s State
		journal, err := s.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		model := map[string][]netip.Addr{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			veth := fmt.Sprintf("veth%02d", rapid.IntRange(0, 20).Draw(t, "veth"))
			before := slices.Clone(s.Leases)
			old := s
			switch rapid.SampledFrom([]string{"add", "add", "add", "del", "gc", "text"}).Draw(t, "op") {
			case "add":
				next, lease, err := Allocate(s, ranges, Lease{Veth: veth, ContainerID: veth})
				if err != nil {
					if !errors.Is(err, ErrExhausted) || len(model) < capacity(ranges) {
						t.Fatalf("allocate with %d of %d: %v", len(model), capacity(ranges), err)
					}
					break
				}
				if had, ok := model[veth]; ok && !slices.Equal(had, lease.Addrs) {
					t.Fatalf("%s had %v and now has %v", veth, had, lease.Addrs)
				}
				model[veth], s = lease.Addrs, next
			case "del":
				s, _ = Release(s, veth)
				delete(model, veth)
			case "gc":
				s, _ = Keep(s, func(l Lease) bool { return l.Veth > veth })
				for k := range model {
					if k <= veth {
						delete(model, k)
					}
				}
			case "text":
				if s, _, err = Unmarshal(journal); err != nil {
					t.Fatal(err)
				}
			}
			if d := cmp.Diff(before, old.Leases, same); d != "" {
				t.Fatalf("the old state was changed: %s", d)
			}
			text, err := Changes(old, s)
			if err != nil {
				t.Fatal(err)
			}
			journal = append(journal, text...)
			check(t, s, ranges, model)
		}
	})
}

func capacity(ranges []netip.Prefix) int {
	least := 1 << 30
	for _, r := range ranges {
		first, last := bounds(r)
		n := 1
		for a := first; a != last && n < 1000; a = a.Next() {
			n++
		}
		least = min(least, n)
	}
	return least
}

func check(t *rapid.T, s State, ranges []netip.Prefix, model map[string][]netip.Addr) {
	seen := map[netip.Addr]string{}
	if len(s.Leases) != len(model) {
		t.Fatalf("%d leases, want %d", len(s.Leases), len(model))
	}
	for i, l := range s.Leases {
		if i > 0 && s.Leases[i-1].Veth >= l.Veth {
			t.Fatalf("leases out of order: %v", s.Leases)
		}
		if !slices.Equal(l.Addrs, model[l.Veth]) || len(l.Addrs) != len(ranges) {
			t.Fatalf("%s holds %v, want %v", l.Veth, l.Addrs, model[l.Veth])
		}
		for j, a := range l.Addrs {
			if other, ok := seen[a]; ok {
				t.Fatalf("%s belongs to %s and %s", a, other, l.Veth)
			}
			seen[a] = l.Veth
			if !ranges[j].Contains(a) {
				t.Fatalf("%s is outside %s", a, ranges[j])
			}
		}
	}
}

func TestFreedAddressComesLast(t *testing.T) {
	ranges := prefixes("10.244.3.0/29") // .1 to .6
	var s State
	add := func(veth string) netip.Addr {
		t.Helper()
		next, l, err := Allocate(s, ranges, Lease{Veth: veth})
		if err != nil {
			t.Fatal(err)
		}
		s = next
		return l.Addrs[0]
	}
	a := add("a")
	s, _ = Release(s, "a")
	var order []netip.Addr
	for i := range 5 {
		order = append(order, add(fmt.Sprint(i)))
	}
	if slices.Contains(order, a) {
		t.Fatalf("%s was given out again although others were free: %v", a, order)
	}
	if got := add("last"); got != a {
		t.Fatalf("the last free address is %s, got %s", a, got)
	}
	if _, _, err := Allocate(s, ranges, Lease{Veth: "more"}); !errors.Is(err, ErrExhausted) {
		t.Fatalf("got %v", err)
	}
}

func TestPodCIDRChanges(t *testing.T) {
	s, old, err := Allocate(State{}, prefixes("10.244.3.0/24"), Lease{Veth: "old"})
	if err != nil {
		t.Fatal(err)
	}
	s, l, err := Allocate(s, prefixes("10.244.9.0/24"), Lease{Veth: "new"})
	if err != nil || l.Addrs[0] != netip.MustParseAddr("10.244.9.1") {
		t.Fatalf("got %v %v", l, err)
	}
	if kept, ok := s.Lease("old"); !ok || !slices.Equal(kept.Addrs, old.Addrs) {
		t.Fatalf("old lease became %v", kept)
	}
}

func TestHostPorts(t *testing.T) {
	ip := netip.MustParseAddr
	all := Port{Proto: "tcp", HostPort: 8080, PodPort: 80}
	one := Port{Proto: "tcp", HostPort: 8080, PodPort: 80, HostIP: ip("192.0.2.2")}
	two := Port{Proto: "tcp", HostPort: 8080, PodPort: 80, HostIP: ip("192.0.2.3")}
	udp := Port{Proto: "udp", HostPort: 8080, PodPort: 80}
	for _, c := range []struct {
		a, b  Port
		clash bool
	}{{all, all, true}, {all, one, true}, {one, all, true}, {one, one, true}, {one, two, false}, {all, udp, false}} {
		ranges := prefixes("10.244.3.0/24")
		s, _, err := Allocate(State{}, ranges, Lease{Veth: "a", Ports: []Port{c.a}})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err = Allocate(s, ranges, Lease{Veth: "a", Ports: []Port{c.a}}); err != nil {
			t.Fatalf("the same lease again: %v", err)
		}
		if _, _, err = Allocate(s, ranges, Lease{Veth: "b", Ports: []Port{c.b}}); errors.Is(err, ErrPortTaken) != c.clash {
			t.Fatalf("%s and %s: %v", c.a, c.b, err)
		}
	}
}

func TestTextRoundTrip(t *testing.T) {
	s := State{Boot: "b-1", Last: []netip.Addr{netip.MustParseAddr("10.244.0.9"), netip.MustParseAddr("fd00::9")}, Leases: []Lease{
		{Veth: "vetha", Addrs: []netip.Addr{netip.MustParseAddr("10.244.0.9"), netip.MustParseAddr("fd00::9")}, ContainerID: "c", IfName: "eth0",
			Netns: "/run/netns/with space", Pod: "ns/name", PodUID: "u", Ports: []Port{
				{Proto: "udp", HostPort: 53, PodPort: 5353, HostIP: netip.MustParseAddr("fd00::2")}, {Proto: "tcp", HostPort: 80, PodPort: 80}}},
		{Veth: "vethb"},
		{Veth: "vethc", Bandwidth: linkplan.Bandwidth{Ingress: linkplan.Limit{Rate: 1e6, Burst: 4294967295}, Egress: linkplan.Limit{Rate: 5}}},
	}}
	text, err := s.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := Unmarshal(text)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(s, got, same); d != "" {
		t.Fatal(d)
	}
	s.Leases[0].Pod = "a\tb"
	if _, err := s.Marshal(); err == nil {
		t.Fatal("a tab inside a field was written")
	}
}

func FuzzUnmarshal(f *testing.F) {
	f.Add([]byte("nodelet-cni 1\tboot\nlast\t10.0.0.1\nlease\tv\t10.0.0.1,fd00::1\tc\teth0\t/n\tns/p\tu\ttcp/*/80->80\n"))
	f.Add([]byte("nodelet-cni 1\tboot\nlease\tv\t\tc\teth0\t/n\tns/p\tu\t\ngone\tv\ngone\tw\nlease\ttorn"))
	f.Add([]byte("nodelet-cni 1\tboot\nlease\tv\t\tc\teth0\t/n\tns/p\tu\t\t1000/0,0/5\n"))
	f.Add([]byte(""))
	f.Add([]byte("nodelet-cni 1\t"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, _, err := Unmarshal(text)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("error without ErrFormat: %v", err)
			}
			return
		}
		again, err := s.Marshal()
		if err != nil {
			return // a control character in a field: refused on the way out
		}
		back, _, err := Unmarshal(again)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(s, back, same); d != "" {
			t.Fatal(d)
		}
	})
}

func BenchmarkText110(b *testing.B) {
	var s State
	for i := range 110 {
		s, _, _ = Allocate(s, prefixes("10.244.3.0/24"), Lease{Veth: fmt.Sprintf("veth%011x", i), ContainerID: fmt.Sprintf("%064x", i),
			IfName: "eth0", Netns: fmt.Sprintf("/run/netns/cni-%032x", i), Pod: fmt.Sprintf("default/some-deployment-name-%d", i), PodUID: "0e8a0d6e-9d6a-4a40-8a6b-8c5d1f0d4b7a"})
	}
	for b.Loop() {
		text, _ := s.Marshal()
		if _, _, err := Unmarshal(text); err != nil {
			b.Fatal(err)
		}
	}
}
