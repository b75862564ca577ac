package reconcile

import (
	"fmt"
	"sync"
	"time"
)

// Health is what a loop says of itself to health checks and to the CLI. The
// zero value is ready for use; a nil *Health swallows everything.
type Health struct {
	mu     sync.Mutex
	status Status
}

// Status is the state of one loop at one moment.
type Status struct {
	// Waiting: the tables the loop depends on are not synced yet.
	Waiting bool `json:"waiting"`
	// LastSuccess and LastFailure are zero when there was none.
	LastSuccess time.Time `json:"lastSuccess"`
	LastFailure time.Time `json:"lastFailure"`
	// FailingSince is the first failure after the last success, zero when all is well.
	FailingSince time.Time `json:"failingSince"`
	Error        string    `json:"error,omitempty"`
}

// Status gives the present state.
func (h *Health) Status() Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.status
}

// String is one line for people.
func (s Status) String() string {
	switch {
	case s.Waiting:
		return "waiting for the API"
	case !s.FailingSince.IsZero():
		return fmt.Sprintf("failing since %s: %s", s.FailingSince.Format(time.RFC3339), s.Error)
	case s.LastSuccess.IsZero():
		return "starting"
	}
	return "ok"
}

func (h *Health) waiting(yes bool) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.status.Waiting = yes
}

func (h *Health) note(err error) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if err == nil {
		h.status = Status{LastSuccess: now, LastFailure: h.status.LastFailure}
		return
	}
	h.status.LastFailure = now
	h.status.Error = err.Error()
	if h.status.FailingSince.IsZero() {
		h.status.FailingSince = now
	}
}
