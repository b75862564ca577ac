package lb_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"nodelet/internal/golden"
	"nodelet/internal/model"
	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
)

var config = &lb.Config{NodeName: "n1", PodCIDRs: []netip.Prefix{
	netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/56"),
}}

func TestGolden(t *testing.T) {
	golden.Run(t, "testdata/services/*.txtar", func(t *golden.Case) {
		w := lbtest.New()
		if err := w.Apply(t.Section("world")); err != nil {
			t.Fatal(err)
		}
		t.Want("state", lb.Compile(config, w.Snapshot()).String())
	})
}

// line draws one line of history out of a small world, so that collisions,
// shared addresses and repeated objects are common.
func line(t *rapid.T) string {
	pick := func(label string, from ...string) string { return rapid.SampledFrom(from).Draw(t, label) }
	name := pick("name", "a/x", "a/y", "b/x")
	switch pick("kind", "slice", "slice", "slice", "service", "service", "delete", "node", "cidr") {
	case "cidr":
		if rapid.Bool().Draw(t, "gone") {
			return "delete cidr " + pick("cidr", "k", "l")
		}
		return fmt.Sprintf("cidr %s %s", pick("cidr", "k", "l"), pick("range", "10.96.0.0/16", "10.96.0.0/31,fd00:96::/112"))
	case "node":
		return fmt.Sprintf("node %s 192.168.0.%s zone=%s%s", pick("node", "n1", "n2"), pick("ip", "1", "2"), pick("zone", "z1", "z2"),
			pick("pods", "", " pods=10.244.0.0/24", " pods=10.244.1.0/24,fd00:244::/64"))
	case "delete":
		return fmt.Sprintf("delete %s %s", pick("what", "service", "slice"), name)
	case "service":
		ip := map[string]string{"a/x": "10.96.0.1", "a/y": "10.96.0.2", "b/x": "10.96.0.3,fd00:96::3"}[name]
		l := fmt.Sprintf("service %s %s %s", name, pick("type", "ClusterIP", "NodePort", "LoadBalancer"), ip)
		l += fmt.Sprintf(" p:80/%s[3000%d]", pick("proto", "TCP", "UDP"), rapid.IntRange(0, 2).Draw(t, "np"))
		if rapid.Bool().Draw(t, "second") {
			l += " q:81/UDP"
		}
		for _, o := range []string{"internal=local", "external=local", "affinity=3h", "lb=1.1.1.1", "extip=2.2.2.2", "ranges=10.0.0.0/8,10.1.0.0/16", "headless", "proxy=other"} {
			if rapid.IntRange(0, 4).Draw(t, o) == 0 {
				l += " " + o
			}
		}
		return l
	}
	l := fmt.Sprintf("slice %s of %s", name, pick("of", "a/x", "a/y", "b/x"))
	l += " p:80/" + pick("proto", "TCP", "UDP") + " q:81/UDP"
	prefix := pick("family", "10.244.0.", "10.244.0.", "fd00:244::")
	for range rapid.IntRange(0, 3).Draw(t, "endpoints") {
		l += fmt.Sprintf(" %s%d=%s", prefix, rapid.IntRange(1, 4).Draw(t, "ep"), pick("state", "ready", "ready", "serving", "terminating", "not-ready"))
		l += pick("on", "", "@n1", "@n2") + pick("hint", "", ";zones=z1", ";zones=z2;nodes=n1")
	}
	return l
}

// content is all that a State says, for comparing.
func content(s *lb.State) string {
	var lines []string
	for f, t := range s.All() {
		lines = append(lines, fmt.Sprintf("%s %s %s:%s", f, t.Kind, t.Service, t.Name))
	}
	for a := range s.Loops() {
		lines = append(lines, "loop "+a.String())
	}
	lines = append(lines, fmt.Sprint("ranges ", s.Config().ServiceCIDRs, s.Unassigned(netip.MustParseAddr("10.96.0.1")), s.Unassigned(netip.MustParseAddr("fd00:96::3"))))
	lines = append(lines, fmt.Sprint("local pods ", s.Config().LocalRanges(false), s.Config().LocalRanges(true)))
	slices.Sort(lines)
	return s.String() + strings.Join(lines, "\n")
}

// TestAdvanceIsCompile is the law: whatever the history and wherever in it the
// State was brought up to date, it is what Compile makes of the end.
func TestAdvanceIsCompile(t *testing.T) {
	byNode := *config
	byNode.Local.Mode = lb.ByNodeCIDR
	rapid.Check(t, func(t *rapid.T) {
		config := rapid.SampledFrom([]*lb.Config{config, &byNode}).Draw(t, "config")
		w := lbtest.New()
		s := lb.Compile(config, w.Snapshot())
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			if err := w.Apply(line(t)); err != nil {
				t.Fatal(err)
			}
			if !rapid.Bool().Draw(t, "look") {
				continue
			}
			prev, before := s, content(s)
			s = lb.Advance(s, w.Snapshot())
			if got, want := content(s), content(lb.Compile(config, w.Snapshot())); got != want {
				t.Fatalf("Advance and Compile differ:\n%s", cmp.Diff(want, got))
			}
			if after := content(prev); after != before {
				t.Fatalf("Advance changed the State it came from:\n%s", cmp.Diff(before, after))
			}
			checkChanges(t, prev, s)
		}
	})
}

// checkChanges: prev with its Changes applied is next, and nothing is named in vain.
func checkChanges(t *rapid.T, prev, next *lb.State) {
	have := map[lb.Frontend]lb.Target{}
	for f, target := range prev.All() {
		have[f] = target
	}
	for c := range lb.Changes(prev, next) {
		if c.Old != have[c.Frontend] || c.Old == c.New {
			t.Fatalf("change of %s: old %v, had %v, new %v", c.Frontend, c.Old, have[c.Frontend], c.New)
		}
		if have[c.Frontend] = c.New; c.New.Port == nil {
			delete(have, c.Frontend)
		}
	}
	n := 0
	for f, target := range next.All() {
		if n++; have[f] != target {
			t.Fatalf("Changes miss %s", f)
		}
	}
	if n != len(have) {
		t.Fatalf("Changes leave %d frontends of %d", len(have), n)
	}
	loops := map[netip.Addr]bool{}
	for a := range prev.Loops() {
		loops[a] = true
	}
	for a, is := range lb.LoopChanges(prev, next) {
		if loops[a] == is {
			t.Fatalf("loop change of %s in vain", a)
		}
		if loops[a] = is; !is {
			delete(loops, a)
		}
	}
	for a := range next.Loops() {
		if !loops[a] {
			t.Fatalf("LoopChanges miss %s", a)
		}
		delete(loops, a)
	}
	if len(loops) > 0 {
		t.Fatalf("LoopChanges leave %v", loops)
	}
}

func TestStale(t *testing.T) {
	ap := netip.MustParseAddrPort
	base := "node n1 192.168.0.1\nservice d/u NodePort 10.96.0.9 p:53/UDP[30053]\n"
	two := base + "slice d/u1 of d/u p:5353/UDP 10.244.0.1=ready 10.244.0.2=ready\n"
	flow := func(dst, answers string) [2]netip.AddrPort { return [2]netip.AddrPort{ap(dst), ap(answers)} }
	to1, to2 := flow("10.96.0.9:53", "10.244.0.1:5353"), flow("10.96.0.9:53", "10.244.0.2:5353")
	node1 := flow("192.168.0.1:30053", "10.244.0.1:5353")
	raw, rawNode := flow("10.96.0.9:53", "10.96.0.9:53"), flow("192.168.0.1:30053", "192.168.0.1:30053")
	elsewhere := flow("8.8.8.8:30053", "8.8.8.8:30053")
	for _, c := range []struct {
		name, before, after string
		gone, stay          [][2]netip.AddrPort
	}{
		{"endpoint removed", two, "slice d/u1 of d/u p:5353/UDP 10.244.0.2=ready", [][2]netip.AddrPort{to1, node1}, [][2]netip.AddrPort{to2, elsewhere}},
		{"endpoint still serves", two, "slice d/u1 of d/u p:5353/UDP 10.244.0.1=serving 10.244.0.2=ready", nil, [][2]netip.AddrPort{to1, to2, node1}},
		{"endpoint serves no longer", two, "slice d/u1 of d/u p:5353/UDP 10.244.0.1=terminating 10.244.0.2=ready", [][2]netip.AddrPort{to1}, [][2]netip.AddrPort{to2}},
		{"to zero", two, "slice d/u1 of d/u p:5353/UDP", [][2]netip.AddrPort{to1, to2, node1}, [][2]netip.AddrPort{elsewhere}},
		{"zero to one", base, "slice d/u1 of d/u p:5353/UDP 10.244.0.1=ready", [][2]netip.AddrPort{raw, rawNode}, [][2]netip.AddrPort{elsewhere, to1}},
		{"service deleted", two, "delete service d/u", [][2]netip.AddrPort{to1, node1}, [][2]netip.AddrPort{raw, elsewhere}},
		{"target port changed", two, "slice d/u1 of d/u p:5354/UDP 10.244.0.1=ready", [][2]netip.AddrPort{to1, node1}, nil},
		{"port changed", two, "service d/u NodePort 10.96.0.9 p:54/UDP[30053]", [][2]netip.AddrPort{to1}, [][2]netip.AddrPort{node1}},
		{"node port changed", two, "service d/u NodePort 10.96.0.9 p:53/UDP[30054]", [][2]netip.AddrPort{node1}, [][2]netip.AddrPort{to1}},
		{"endpoint added", two, "slice d/u2 of d/u p:5353/UDP 10.244.0.3=ready", nil, [][2]netip.AddrPort{to1, to2, node1}},
		{"affinity flipped", two, "service d/u NodePort 10.96.0.9 p:53/UDP[30053] affinity=1h", nil, [][2]netip.AddrPort{to1, to2, node1}},
		{"policy flipped", two, "service d/u NodePort 10.96.0.9 p:53/UDP[30053] external=local", nil, [][2]netip.AddrPort{to1, node1}},
	} {
		w := lbtest.MustParse(c.before)
		prev := lb.Compile(config, w.Snapshot())
		if err := w.Apply(c.after); err != nil {
			t.Fatal(err)
		}
		next := lb.Advance(prev, w.Snapshot())
		wrong := func(from *lb.State, f [2]netip.AddrPort) bool {
			for s := range lb.Stale(from, next) {
				if s.Wrong(f[0], f[1], next.LocalAddr(f[0].Addr())) {
					return true
				}
			}
			return false
		}
		for _, f := range c.gone {
			if !wrong(prev, f) {
				t.Errorf("%s: flow %v stays", c.name, f)
			}
			// A restart forgets prev: what is served must come out the same.
			if _, served := next.Lookup(lb.Frontend{Addr: f[0].Addr(), Proto: model.UDP, Port: f[0].Port()}); served && !wrong(nil, f) {
				t.Errorf("%s: flow %v stays after a restart", c.name, f)
			}
		}
		for _, f := range c.stay {
			if wrong(prev, f) || wrong(nil, f) {
				t.Errorf("%s: flow %v goes", c.name, f)
			}
		}
	}
}

// TestDispute: the smaller key wins, whoever came first, and the other takes over.
func TestDispute(t *testing.T) {
	x := "service a/x ClusterIP 10.96.0.1 p:80/TCP extip=1.1.1.1\n"
	y := "service a/y ClusterIP 10.96.0.2 p:80/TCP extip=1.1.1.1\n"
	f := lb.Frontend{Addr: netip.MustParseAddr("1.1.1.1"), Proto: model.TCP, Port: 80}
	for _, order := range []string{x + y, y + x} {
		w := lbtest.MustParse(order)
		s := lb.Compile(config, w.Snapshot())
		if got, _ := s.Lookup(f); got.Service.Name != "x" {
			t.Errorf("winner is %s", got.Service)
		}
		_ = w.Apply("delete service a/x")
		if got, _ := lb.Advance(s, w.Snapshot()).Lookup(f); got.Service.Name != "y" {
			t.Errorf("after deletion the winner is %s", got.Service)
		}
	}
}

func TestUnchangedIsIdentical(t *testing.T) {
	w := lbtest.MustParse("node n1 192.168.0.1\nservice a/x ClusterIP 10.96.0.1 p:80/TCP\nslice a/x of a/x p:80/TCP 10.244.0.1=ready\n")
	s := lb.Compile(config, w.Snapshot())
	// Written again with another resource version, and the node with another zone: nothing is changed by it.
	_ = w.Apply("slice a/x of a/x p:80/TCP 10.244.0.1=ready\nnode n1 192.168.0.1 zone=z")
	for c := range lb.Changes(s, lb.Advance(s, w.Snapshot())) {
		t.Errorf("change %v", c)
	}
}
