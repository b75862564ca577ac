package keep

import (
	"testing"
	"time"
)

// What was kept is as long ago as the clock says, but never in the future.
func TestPast(t *testing.T) {
	now := time.Now()
	for ago, want := range map[time.Duration]time.Duration{time.Hour: time.Hour, 0: 0, -24 * time.Hour: 0} {
		kept := now.Add(-ago).Round(0) // without the monotonic clock, as out of a file
		if got := now.Sub(Past(kept, now)); got != want {
			t.Errorf("%s ago: %s", ago, got)
		}
	}
	if !Past(time.Time{}, now).IsZero() {
		t.Error("no time became one")
	}
}
