package lb_test

import (
	"fmt"
	"testing"

	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
)

func BenchmarkCompile(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			snap := lbtest.Many(n, 2).Snapshot()
			for b.Loop() {
				lb.Compile(config, snap)
			}
		})
	}
}

func BenchmarkAdvanceOneSlice(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := lbtest.Many(n, 2)
			s := lb.Compile(config, w.Snapshot())
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				w.Flip(i%n, 2+i/n%2)
				b.StartTimer()
				s = lb.Advance(s, w.Snapshot())
			}
		})
	}
}
