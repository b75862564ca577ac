package keep

import "time"

// Past makes of a time that an earlier process has kept one of this process: never one that is yet to come, if
// the clock was set back meanwhile, and one that later changes of the clock do not move. Zero stays zero.
func Past(t, now time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return now.Add(-max(0, now.Sub(t)))
}
