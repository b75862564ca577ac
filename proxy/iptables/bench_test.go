package iptables

import (
	"fmt"
	"testing"

	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
)

// BenchmarkPlanChange is one changed slice, from the state to the chains that are written anew.
func BenchmarkPlanChange(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := lbtest.Many(n, 2)
			prev := lb.Compile(config, w.Snapshot())
			c := contentOf(&renderer{cfg: config}, prev)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				w.Flip(i%n, 2)
				next := lb.Advance(prev, w.Snapshot())
				b.StartTimer()
				c.advance(prev, next)
				prev = next
			}
		})
	}
}

// BenchmarkPlanWhole is all chains from nothing.
func BenchmarkPlanWhole(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := lb.Compile(config, lbtest.Many(n, 2).Snapshot())
			b.ReportAllocs()
			for b.Loop() {
				contentOf(&renderer{cfg: config}, s)
			}
		})
	}
}
