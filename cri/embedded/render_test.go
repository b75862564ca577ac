package embedded

import (
	"testing"
	"time"
)

// Nobody asks for the rates for which containerd would look at every container again and again.
func TestContainersAreNotSampled(t *testing.T) {
	every, _ := Config{}.renderRuntime(found{})["stats_collect_period"].(string)
	if d, err := time.ParseDuration(every); err != nil || d < time.Hour {
		t.Errorf("sampled every %q: %v", every, err)
	}
}
