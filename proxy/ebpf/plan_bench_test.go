package ebpf

import (
	"testing"

	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbbench"
)

func BenchmarkPlanChange(b *testing.B) {
	lbbench.PlanChange(b, config, func(s *lb.State) func(prev, next *lb.State) {
		c := newContent(config)
		c.written(c.begin(s))
		return func(prev, next *lb.State) { c.written(c.advance(prev, next)) }
	})
}

// BenchmarkPlanWhole is the content of all maps.
func BenchmarkPlanWhole(b *testing.B) {
	lbbench.PlanWhole(b, config, func(s *lb.State) { newContent(config).begin(s) })
}
