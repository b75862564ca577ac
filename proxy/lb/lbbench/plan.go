package lbbench

import (
	"fmt"
	"testing"

	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
)

// planSizes are the numbers of Services for which a back end's plans are measured.
var planSizes = []int{10, 1000, 10_000, 100_000}

// PlanWhole measures the plan of a State from nothing.
func PlanWhole(b *testing.B, cfg *lb.Config, plan func(*lb.State)) {
	for _, n := range planSizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := lb.Compile(cfg, lbtest.Many(n, 2).Snapshot())
			b.ReportAllocs()
			for b.Loop() {
				plan(s)
			}
		})
	}
}

// PlanChange measures the plan of one changed slice, from the State to what is written: nothing touches
// the kernel. begin takes the first State and gives what takes each step from there.
func PlanChange(b *testing.B, cfg *lb.Config, begin func(*lb.State) (step func(prev, next *lb.State))) {
	for _, n := range planSizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := lbtest.Many(n, 2)
			prev := lb.Compile(cfg, w.Snapshot())
			step := begin(prev)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				w.Flip(i%n, 2)
				next := lb.Advance(prev, w.Snapshot())
				b.StartTimer()
				step(prev, next)
				prev = next
			}
		})
	}
}
