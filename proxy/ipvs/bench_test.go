package ipvs

import (
	"fmt"
	"testing"

	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
)

// BenchmarkPlanWhole is the whole of IPVS' table from nothing; each change is that and the comparison with what is there.
func BenchmarkPlanWhole(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := lb.Compile(readBackConfig, lbtest.Many(n, 2).Snapshot())
			b.ReportAllocs()
			for b.Loop() {
				diff(newTable(), compile(s, "rr", false))
			}
		})
	}
}
