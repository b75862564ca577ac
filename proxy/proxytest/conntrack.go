package proxytest

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"nodelet/internal/conntrack"
	"nodelet/internal/model"
	"nodelet/proxy/lb"
)

// udpFlows lists the node's translated UDP flows, IPv4.
func (b *bench) udpFlows() (out []conntrack.Flow) {
	b.t.Helper()
	b.tracked(func(f conntrack.Flow) bool {
		if f.Proto == uint8(model.UDP) && f.AnswersFrom != f.Dst {
			out = append(out, f)
		}
		return false
	})
	return out
}

// tracked visits all tracked flows, and deletes those that are picked.
func (b *bench) tracked(pick func(conntrack.Flow) bool) {
	b.t.Helper()
	c, err := conntrack.Open(b.Node.NS.Fd())
	if err != nil {
		b.t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Delete(context.Background(), false, pick); err != nil {
		b.t.Fatal(err)
	}
}

// explained holds the connection tracking table against the State: every
// translated UDP flow to a frontend goes to an endpoint that serves it, and
// none is left of a frontend that is no more.
func (b *bench) explained(when string) {
	b.t.Helper()
	state := b.proxy.State()
	for _, f := range b.udpFlows() {
		t, ok := state.Lookup(lb.Frontend{Addr: f.Dst.Addr(), Proto: model.UDP, Port: f.Dst.Port()})
		if !ok && b.ofNode(f.Dst.Addr()) {
			t, ok = state.Lookup(lb.Frontend{Addr: netip.IPv4Unspecified(), Proto: model.UDP, Port: f.Dst.Port()})
		}
		switch {
		case !ok:
			b.t.Errorf("%s: no Service explains %s", when, f)
		case !slices.Contains(t.Serving, f.AnswersFrom):
			b.t.Errorf("%s: %s of %s does not explain %s", when, t.Kind, t.Service, f)
		}
	}
}

// udpMatrix: of the flows through each kind of frontend, those that a change
// makes wrong leave at once, and those that are still right stay.
func udpMatrix(t *testing.T, s subject) {
	service := func(options string) string {
		return "service d/x LoadBalancer 10.96.0.1 " + options + "\n"
	}
	const (
		clusterIP, nodePort, balancer, external = "10.96.0.1:53", "192.168.7.1:31001", "1.2.3.4:53", "5.6.7.8:53"
		usual                                   = "q:53/UDP[31001] lb=1.2.3.4 extip=5.6.7.8"
	)
	all := []string{clusterIP, nodePort, balancer, external}
	world := service(usual) + endpoints("d/x", "a")
	b := newBench(t, s, world)
	for _, c := range []struct {
		name, change string
		stay         []string
	}{
		{"endpoint replaced", endpoints("d/x", "b"), nil},
		{"scaled to zero", endpoints("d/x"), nil},
		{"endpoint terminates but serves", endpoints("d/x", "a=serving", "b"), all},
		{"endpoint added", endpoints("d/x", "a", "b"), all},
		{"Service deleted", "delete service d/x", nil},
		{"port changed", service("q:54/UDP[31001] lb=1.2.3.4 extip=5.6.7.8"), []string{nodePort}},
		{"node port changed", service("q:53/UDP[31002] lb=1.2.3.4 extip=5.6.7.8"), []string{clusterIP, balancer, external}},
		{"load balancer IP changed", service("q:53/UDP[31001] lb=1.2.3.5 extip=5.6.7.8"), []string{clusterIP, nodePort, external}},
		{"external IP removed", service("q:53/UDP[31001] lb=1.2.3.4"), []string{clusterIP, nodePort, balancer}},
		{"affinity", service(usual + " affinity=3h"), all},
		{"policy", service(usual + " external=local internal=local"), all},
		{"proxy restarted", "", all},
	} {
		b.change(world)
		b.tracked(func(conntrack.Flow) bool { return true })
		for _, dst := range all {
			b.who("outside", dst+"/UDP")
		}
		var before, after []string
		for _, f := range b.udpFlows() {
			before = append(before, f.Dst.String())
		}
		if c.change == "" {
			b.stop()
			b.start()
		} else {
			b.change(c.change)
		}
		for _, f := range b.udpFlows() {
			after = append(after, f.Dst.String())
		}
		// A back end that does not translate by connection tracking has none to begin with.
		want := slices.DeleteFunc(slices.Clone(before), func(dst string) bool { return !slices.Contains(c.stay, dst) })
		slices.Sort(want)
		slices.Sort(after)
		if fmt.Sprint(after) != fmt.Sprint(want) {
			t.Errorf("%s: flows left: %s\nwant: %s", c.name, strings.Join(after, " "), strings.Join(want, " "))
		}
		b.explained(c.name)
	}
}
