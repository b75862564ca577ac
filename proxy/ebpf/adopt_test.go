package ebpf

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
)

// TestNoteFlow: what is noted of a flow leads its packets there and back.
func TestNoteFlow(t *testing.T) {
	at := netip.MustParseAddrPort
	direct := lb.UDPFlow{Client: at("1.2.3.4:1000"), Frontend: at("10.96.0.1:53"), Endpoint: at("10.244.1.2:8053"), Source: at("1.2.3.4:1000")}
	masqueraded := direct
	masqueraded.Source = at("192.168.0.1:2000")
	for _, c := range []struct {
		flow lb.UDPFlow
		want []string
	}{
		{direct, []string{
			"ingress 1.2.3.4:1000 -> 10.96.0.1:53 becomes 10.244.1.2:8053, flags 0",
			"egress 10.244.1.2:8053 -> 1.2.3.4:1000 becomes 10.96.0.1:53, flags 1",
		}},
		{masqueraded, []string{
			"ingress 1.2.3.4:1000 -> 10.96.0.1:53 becomes 10.244.1.2:8053, flags 2",
			"egress 1.2.3.4:1000 -> 10.244.1.2:8053 becomes 192.168.0.1:2000, flags 2",
			"ingress 10.244.1.2:8053 -> 192.168.0.1:2000 becomes 1.2.3.4:1000, flags 3",
			"egress 10.244.1.2:8053 -> 1.2.3.4:1000 becomes 10.96.0.1:53, flags 1",
		}},
	} {
		p := &puts[proxyTuple, proxyFlow]{}
		noteFlow(p, c.flow, 7, 100)
		var got []string
		for i, k := range p.keys {
			v := p.values[i]
			hook := map[uint8]string{0: "ingress", 1: "egress"}[k.AtEgress]
			port := func(a proxyAddr, n uint16) netip.AddrPort { return netip.AddrPortFrom(decodeAddr(a), swapped(n)) }
			got = append(got, fmt.Sprintf("%s %s -> %s becomes %s, flags %d", hook, port(k.Src, k.Sport), port(k.Dst, k.Dport), port(v.Addr, v.Number), v.Flags))
			if k.Proto != 17 || v.Port != 7 || v.Seen != 100 {
				t.Errorf("%+v: %+v", k, v)
			}
		}
		slices.Sort(got)
		slices.Sort(c.want)
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v:\n%q\nwant\n%q", c.flow, got, c.want)
		}
	}
}

// TestServes: a flow is taken over only while its endpoint serves the port that it asked for.
func TestServes(t *testing.T) {
	w := lbtest.MustParse("node n1 192.168.0.1\nservice d/x NodePort 10.96.0.1 q:53/UDP[30053]\nslice d/x of d/x q:8053/UDP 10.244.1.2=ready@n1 10.244.1.3=not-ready@n1\n")
	state := lb.Compile(&lb.Config{NodeName: "n1"}, w.Snapshot())
	c, _, _ := plan(&elements{}, state, sizes{1000, 1000, 1000, 1000, 1000})
	for frontend, endpoints := range map[string]map[string]bool{
		"10.96.0.1:53":      {"10.244.1.2:8053": true, "10.244.1.3:8053": false, "10.244.1.2:53": false},
		"192.168.0.1:30053": {"10.244.1.2:8053": true}, "192.168.0.9:30053": {"10.244.1.2:8053": false}, "10.96.0.9:53": {"10.244.1.2:8053": false},
	} {
		for endpoint, want := range endpoints {
			f := lb.UDPFlow{Frontend: netip.MustParseAddrPort(frontend), Endpoint: netip.MustParseAddrPort(endpoint)}
			if _, got := c.serves(state, f, f.Frontend.Addr() == netip.MustParseAddr("192.168.0.1")); got != want {
				t.Errorf("%s -> %s: %t", frontend, endpoint, got)
			}
		}
	}
}
