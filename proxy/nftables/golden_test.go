package nftables

import (
	"slices"
	"testing"

	"nodelet/internal/golden"
	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
)

// TestRenderGolden shows the whole of both tables for one of everything.
func TestRenderGolden(t *testing.T) {
	w := lbtest.MustParse(`node n1 192.168.0.1 fd00::1
service d/any NodePort 10.96.0.1,fd00:96::1 p:80/TCP[30001]
slice d/any-4 of d/any p:8080/TCP 10.244.0.1=ready@n1 10.244.1.1=ready@n2
slice d/any-6 of d/any p:8080/TCP fd00:244::1=ready@n1
service d/sticky LoadBalancer 10.96.0.2 p:80/UDP[30002] affinity=3h external=local lb=1.2.3.4 ranges=10.0.0.0/8
slice d/sticky of d/sticky p:8080/UDP 10.244.0.2=ready@n1 10.244.1.2=ready@n2
service d/none ClusterIP 10.96.0.3 p:80/TCP
service d/away ClusterIP 10.96.0.4 p:80/TCP internal=local
slice d/away of d/away p:8080/TCP 10.244.1.3=ready@n2
`)
	s := lb.Compile(config, w.Snapshot())
	got := ""
	for _, ipv6 := range []bool{false, true} {
		c := newContent(familyOf(ipv6), config)
		c.become(s)
		// The order in which plans are met does not matter, but shall not make the file differ.
		sortPlans(c)
		got += c.ruleset().String()
	}
	golden.File(t, "testdata/tables.golden", got)
}

func sortPlans(c *content) {
	for i := range c.dispatch {
		slices.Sort(c.dispatch[i])
	}
}
