package routes

import (
	"fmt"
	"net/netip"
	"testing"

	"nodelet/internal/model"
)

func BenchmarkMake(b *testing.B) {
	for _, n := range []int{10, 100, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			nodes := make([]*model.Node, n)
			for i := range nodes {
				nodes[i] = &model.Node{
					Name:        fmt.Sprintf("node-%d", i),
					PodCIDRs:    []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64 + byte(i>>8), byte(i), 0}), 24)},
					InternalIPs: []netip.Addr{netip.AddrFrom4([4]byte{192, 168, byte(i >> 8), byte(i)})},
				}
			}
			connected := []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16")}
			if got := len(Make("node-0", nodes, connected).Routes); got < n-1 {
				b.Fatalf("%d routes to %d other nodes", got, n-1)
			}
			b.ReportAllocs()
			for b.Loop() {
				Make("node-0", nodes, connected)
			}
		})
	}
}
