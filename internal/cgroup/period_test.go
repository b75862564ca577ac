package cgroup

import (
	"testing"
	"time"
)

func TestOver(t *testing.T) {
	for _, c := range []struct {
		quota  int64
		period time.Duration
		none   bool
		want   Limits
	}{
		{250_000, 0, false, Limits{CPUQuota: 250_000, CPUPeriod: 100_000}},
		{250_000, 10 * time.Millisecond, false, Limits{CPUQuota: 25_000, CPUPeriod: 10_000}},
		{5_000, time.Millisecond, false, Limits{CPUQuota: 1_000, CPUPeriod: 1_000}}, // the kernel takes no less
		{0, 10 * time.Millisecond, false, Limits{CPUPeriod: 100_000}},
		{250_000, 10 * time.Millisecond, true, Limits{}},
	} {
		l := Limits{CPUQuota: c.quota, CPUPeriod: 100_000}
		if l.Over(c.period, c.none); l.CPUQuota != c.want.CPUQuota || l.CPUPeriod != c.want.CPUPeriod {
			t.Errorf("%d over %s, none %t: %d of %d", c.quota, c.period, c.none, l.CPUQuota, l.CPUPeriod)
		}
	}
}
