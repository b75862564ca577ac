package explain_test

import (
	"fmt"
	"net/netip"
	"testing"

	"nodelet/explain"
	"nodelet/proxy/eval"
	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
)

// BenchmarkExplain is one question about one of so many Services, once the facts are there.
func BenchmarkExplain(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := lbtest.Many(n, 2)
			cfg := &lb.Config{NodeName: "n1", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}}
			f := &explain.Facts{Complete: true, Proxied: true, Network: true, ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")}}
			f.Names = explain.Names{Snapshot: w.Snapshot(), State: lb.Compile(cfg, w.Snapshot()), NodeName: "n1", ClusterDomain: "cluster.local",
				NodeAddrs: []netip.Addr{netip.MustParseAddr("192.168.0.1")}}
			q, err := explain.Parse("node -> 10.96.0.5:80")
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if f.Question, err = explain.Resolve(f.Names, q); err != nil {
					b.Fatal(err)
				}
				f.Verdict, f.Trace = eval.Trace(f.State, f.Packet)
				explain.Explain(f)
			}
		})
	}
}
