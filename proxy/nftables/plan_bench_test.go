package nftables

import (
	"testing"

	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbbench"
)

func BenchmarkPlanChange(b *testing.B) {
	lbbench.PlanChange(b, config, func(s *lb.State) func(prev, next *lb.State) {
		c := newContent(familyOf(false), config)
		c.become(s)
		return func(prev, next *lb.State) { c.advance(newEdits(), prev, next) }
	})
}

// BenchmarkPlanWhole is the whole table's content.
func BenchmarkPlanWhole(b *testing.B) {
	lbbench.PlanWhole(b, config, func(s *lb.State) { newContent(familyOf(false), config).become(s) })
}
