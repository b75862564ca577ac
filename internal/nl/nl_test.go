package nl

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"nodelet/internal/netns"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lab opens sockets in two fresh namespaces.
func lab(t *testing.T) (a, b *Conn, nsA, nsB *netns.NS) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	open := func() (*Conn, *netns.NS) {
		ns, err := netns.New()
		if err != nil {
			t.Fatal(err)
		}
		c, err := OpenAt(ns.Fd())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close(); _ = ns.Close() })
		return c, ns
	}
	a, nsA = open()
	b, nsB = open()
	return a, b, nsA, nsB
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestVethAcrossNamespaces(t *testing.T) {
	a, b, _, nsB := lab(t)
	mac := net.HardwareAddr{0x02, 0, 0, 0, 0, 1}
	peer := net.HardwareAddr{0x02, 0, 0, 0, 0, 2}
	v := Veth{Name: "veth0", MAC: mac, MTU: 1400, Group: 77, PeerNS: nsB.Fd(), PeerName: "eth0", PeerMAC: peer}
	index, err := a.AddVeth(v)
	must(t, err)
	l, err := a.Link("veth0")
	must(t, err)
	if l.Index != index || l.MTU != 1400 || l.Group != 77 || !l.Up || l.Kind != "veth" || l.MAC.String() != mac.String() {
		t.Fatalf("got %+v", l)
	}
	p, err := b.Link("eth0")
	must(t, err)
	if p.Up || p.MTU != 1400 || p.MAC.String() != peer.String() || p.PeerIndex != index {
		t.Fatalf("peer is %+v", p)
	}
	if _, err := a.AddVeth(v); !errors.Is(err, ErrExists) {
		t.Fatalf("second add: %v", err)
	}
	must(t, a.DeleteLink(index))
	must(t, a.DeleteLink(index))
	if _, err := b.Link("eth0"); !errors.Is(err, ErrNotFound) {
		t.Fatalf("peer after delete: %v", err)
	}
}

func TestAddressesRoutesNeighboursRules(t *testing.T) {
	a, _, _, nsB := lab(t)
	index, err := a.AddVeth(Veth{Name: "veth0", MTU: 1500, PeerNS: nsB.Fd(), PeerName: "eth0"})
	must(t, err)
	for _, p := range []string{"10.9.0.1/32", "fd09::1/128"} {
		addr := Addr{Prefix: netip.MustParsePrefix(p), Link: index}
		must(t, a.AddAddr(addr))
		must(t, a.AddAddr(addr))
		got, err := a.Addrs(index)
		must(t, err)
		found := false
		for _, g := range got {
			found = found || g.Prefix == addr.Prefix && g.Global
		}
		if !found {
			t.Fatalf("%s is not in %v", p, got)
		}
	}
	routes := []Route{
		{Dst: netip.MustParsePrefix("10.244.0.5/32"), Link: index, Src: netip.MustParseAddr("10.9.0.1")},
		{Dst: netip.MustParsePrefix("fd00::5/128"), Link: index},
		{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("169.254.1.1"), Link: index, Onlink: true},
		{Dst: netip.MustParsePrefix("::/0"), Via: netip.MustParseAddr("fe80::1"), Link: index, Onlink: true},
		{Kind: Unreachable, Dst: netip.MustParsePrefix("10.244.0.0/24")},
		{Kind: Blackhole, Dst: netip.MustParsePrefix("fd00::/64"), Metric: 1024},
	}
	for _, r := range routes {
		must(t, a.ReplaceRoute(r))
		must(t, a.ReplaceRoute(r))
		if err := a.AddRoute(r); !errors.Is(err, ErrExists) {
			t.Fatalf("add %s again: %v", r, err)
		}
	}
	got, err := a.Routes(Proto)
	must(t, err)
	if len(got) != len(routes) {
		t.Fatalf("%d routes, want %d: %v", len(got), len(routes), got)
	}
	for _, r := range got {
		must(t, a.DeleteRoute(r))
		must(t, a.DeleteRoute(r))
	}
	if got, err := a.Routes(Proto); err != nil || len(got) != 0 {
		t.Fatalf("left over: %v %v", got, err)
	}
	n := Neigh{Link: index, IP: netip.MustParseAddr("10.244.0.5"), MAC: net.HardwareAddr{2, 0, 0, 0, 0, 9}}
	must(t, a.SetNeigh(n))
	neighs, err := a.Neighs(index)
	must(t, err)
	if len(neighs) != 1 || neighs[0].String() != n.String() {
		t.Fatalf("got %v", neighs)
	}
	must(t, a.DeleteNeigh(n))
	must(t, a.DeleteNeigh(n))
	rule := Rule{Priority: 100, Table: 100, Src: netip.MustParsePrefix("10.244.0.0/24"), Mark: 0x4000, Mask: 0x4000}
	must(t, a.AddRule(rule))
	must(t, a.AddRule(rule))
	rules, err := a.Rules(Proto)
	must(t, err)
	if len(rules) != 1 || rules[0].String() != rule.String() {
		t.Fatalf("got %v, want %v", rules, rule)
	}
	must(t, a.DeleteRule(rule))
	must(t, a.DeleteRule(rule))
}

func TestErrorsSayTheWayOut(t *testing.T) {
	a, _, _, nsB := lab(t)
	index, err := a.AddVeth(Veth{Name: "veth0", PeerNS: nsB.Fd(), PeerName: "eth0"})
	must(t, err)
	err = a.ReplaceRoute(Route{Dst: netip.MustParsePrefix("10.0.0.0/8"), Via: netip.MustParseAddr("192.0.2.1"), Link: index})
	if err == nil || err.Error() != "set route 10.0.0.0/8 via 192.0.2.1 dev #"+strconv.Itoa(index)+": the next hop is on no directly connected network, or the link is down: network is unreachable" {
		t.Fatalf("got %v", err)
	}
}

func TestWatch(t *testing.T) {
	a, _, nsA, nsB := lab(t)
	ctx, cancel := context.WithCancel(context.Background())
	events := make(chan struct{}, 1000)
	ended := make(chan error, 1)
	go func() {
		ended <- nsA.Do(func() error { return Watch(ctx, func() { events <- struct{}{} }) })
	}()
	deadline := time.After(10 * time.Second)
	// The watcher has started when it reports a change; make changes until it does.
	for i := 0; ; i++ {
		index, err := a.AddVeth(Veth{Name: "veth0", PeerNS: nsB.Fd(), PeerName: "eth0"})
		must(t, err)
		must(t, a.DeleteLink(index))
		select {
		case <-events:
		case <-deadline:
			t.Fatal("no event")
		default:
			continue
		}
		break
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}
