package server

import (
	"sync"
	"time"

	"nodelet/internal/cgroup"
)

// rates turns the growing count of CPU time into a rate, from one reading to the next. It knows the
// last reading of what was there then, and nothing else.
type rates struct {
	mu   sync.Mutex
	last map[string]reading
	next map[string]reading
}

type reading struct {
	at  time.Time
	cpu time.Duration
	// rate is in nanoseconds of CPU per second.
	rate uint64
}

// leastRate is the shortest time a rate is taken over: a shorter one says nothing.
const leastRate = time.Second

func newRates() *rates { return &rates{last: map[string]reading{}} }

// begin starts a round of readings.
func (r *rates) begin() {
	r.mu.Lock()
	r.next = make(map[string]reading, len(r.last))
}

// end ends the round; what was not read in it is forgotten.
func (r *rates) end() {
	r.last, r.next = r.next, nil
	r.mu.Unlock()
}

// rate gives the rate of what goes by a name; nil when it was never read before.
func (r *rates) rate(name string, u *cgroup.Usage) *uint64 {
	now := reading{at: u.At, cpu: u.CPU}
	before, ok := r.last[name]
	switch took := now.at.Sub(before.at); {
	case !ok || now.cpu < before.cpu:
		r.next[name] = now
		return nil
	case took < leastRate:
		now = before
	default:
		now.rate = uint64(float64(now.cpu-before.cpu) / took.Seconds())
	}
	r.next[name] = now
	if now.rate == 0 && before.rate == 0 && now.at.Equal(before.at) {
		return nil // there was only one reading yet
	}
	rate := now.rate
	return &rate
}
