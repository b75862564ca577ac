package nftables

import (
	"fmt"
	"testing"

	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
)

// BenchmarkPlanChange is one changed slice, from the state to the edits: nothing touches the kernel.
func BenchmarkPlanChange(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := lbtest.Many(n, 2)
			prev := lb.Compile(config, w.Snapshot())
			c := newContent(familyOf(false), config)
			c.become(prev)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				w.Flip(i%n, 2)
				next := lb.Advance(prev, w.Snapshot())
				b.StartTimer()
				c.advance(newEdits(), prev, next)
				prev = next
			}
		})
	}
}

// BenchmarkPlanWhole is the whole table's content from nothing.
func BenchmarkPlanWhole(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := lb.Compile(config, lbtest.Many(n, 2).Snapshot())
			b.ReportAllocs()
			for b.Loop() {
				newContent(familyOf(false), config).become(s)
			}
		})
	}
}
