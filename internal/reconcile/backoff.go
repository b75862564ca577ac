package reconcile

import "time"

// Backoff is the wait after failures in a row: Min, doubled each time, up to
// Max. The zero value means 100 ms up to 30 s.
type Backoff struct {
	Min, Max time.Duration
}

// After gives the wait after the nth failure in a row, n from 1.
func (b Backoff) After(n int) time.Duration {
	if b.Min <= 0 {
		b.Min = 100 * time.Millisecond
	}
	if b.Max <= 0 {
		b.Max = 30 * time.Second
	}
	d := b.Min
	for range n - 1 {
		d *= 2
		if d >= b.Max {
			return b.Max
		}
	}
	return min(d, b.Max)
}
