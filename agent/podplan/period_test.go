package podplan

import (
	"testing"

	"nodelet/internal/model"
)

// A node that is given another period does not resize, and so perhaps restart, containers that run.
func TestAnotherPeriodIsNoResize(t *testing.T) {
	for _, c := range []struct {
		name       string
		have, want model.Resources
		differs    bool
	}{
		{"the same", model.Resources{CPUQuota: 50_000, CPUPeriod: 100_000}, model.Resources{CPUQuota: 50_000, CPUPeriod: 100_000}, false},
		{"other period, same share", model.Resources{CPUQuota: 50_000, CPUPeriod: 100_000}, model.Resources{CPUQuota: 5_000, CPUPeriod: 10_000}, false},
		{"other period, other share", model.Resources{CPUQuota: 50_000, CPUPeriod: 100_000}, model.Resources{CPUQuota: 6_000, CPUPeriod: 10_000}, true},
		{"other share", model.Resources{CPUQuota: 50_000, CPUPeriod: 100_000}, model.Resources{CPUQuota: 60_000, CPUPeriod: 100_000}, true},
		{"a first limit", model.Resources{}, model.Resources{CPUQuota: 50_000, CPUPeriod: 100_000}, true},
		{"no limit wanted", model.Resources{CPUQuota: 50_000, CPUPeriod: 100_000}, model.Resources{CPUPeriod: 100_000}, false},
	} {
		if got := differs(c.have, c.want); got != c.differs {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}
