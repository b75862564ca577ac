package iptables

import (
	"testing"

	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbbench"
)

// BenchmarkPlanChange is the chains that are written anew.
func BenchmarkPlanChange(b *testing.B) {
	lbbench.PlanChange(b, config, func(s *lb.State) func(prev, next *lb.State) {
		c := contentOf(&renderer{cfg: config}, s)
		return func(prev, next *lb.State) { c.advance(prev, next) }
	})
}

// BenchmarkPlanWhole is all chains.
func BenchmarkPlanWhole(b *testing.B) {
	lbbench.PlanWhole(b, config, func(s *lb.State) { contentOf(&renderer{cfg: config}, s) })
}
