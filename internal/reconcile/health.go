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
	// Started: all that there was at the start was looked at. Where there was nothing, nothing succeeded either.
	Started bool `json:"started"`
	// LastSuccess and LastFailure are zero when there was none.
	LastSuccess time.Time `json:"lastSuccess"`
	LastFailure time.Time `json:"lastFailure"`
	// FailingSince is the first failure after the last success, zero when all is well.
	FailingSince time.Time `json:"failingSince"`
	Error        string    `json:"error,omitempty"`
	// Failing is how many of a loop's many things fail now; Error is what one of them says.
	Failing int `json:"failing,omitempty"`
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
	case s.Failing > 1:
		return fmt.Sprintf("%d failing since %s, one of them %s", s.Failing, s.FailingSince.Format(time.RFC3339), s.Error)
	case !s.FailingSince.IsZero():
		return fmt.Sprintf("failing since %s: %s", s.FailingSince.Format(time.RFC3339), s.Error)
	case !s.Started:
		return "starting"
	}
	return "ok"
}

func (h *Health) waiting(yes bool) {
	h.change(func(s *Status) { s.Waiting = yes })
}

// started says that the loop has looked at all there is.
func (h *Health) started() {
	h.change(func(s *Status) { s.Started = true })
}

// note takes the outcome of one run.
func (h *Health) note(err error) {
	failing := 0
	if err != nil {
		failing = 1
	}
	h.noteOf(err == nil, err, failing)
	h.started()
}

// noteOf takes the outcome of a run for one of many things, of which so many fail now; err is what one of these says.
func (h *Health) noteOf(ok bool, err error, failing int) {
	now := time.Now()
	h.change(func(s *Status) {
		if ok {
			s.LastSuccess = now
		} else {
			s.LastFailure = now
		}
		s.Failing, s.Error = failing, ""
		switch {
		case err == nil:
			s.FailingSince = time.Time{}
			return
		case s.FailingSince.IsZero():
			s.FailingSince = now
		}
		s.Error = err.Error()
	})
}

func (h *Health) change(edit func(*Status)) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	edit(&h.status)
}
