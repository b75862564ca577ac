package ipvs

import (
	"testing"

	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbbench"
)

// BenchmarkPlanWhole is the whole of IPVS' table; each change is that and the comparison with what is there.
func BenchmarkPlanWhole(b *testing.B) {
	lbbench.PlanWhole(b, readBackConfig, func(s *lb.State) { diff(newTable(), compile(s, "rr", false)) })
}
