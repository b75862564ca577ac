package reconcile

import (
	"context"
	"log/slog"
	"time"

	"nodelet/internal/store"
)

// Loop keeps one whole thing in step with the store.
type Loop struct {
	Name  string
	Store *store.Store
	Log   *slog.Logger
	// Ready tells whether the tables Sync depends on are synced; nil means always.
	Ready func(*store.Snapshot) bool
	// Relevant tells whether next differs from prev in what Sync looks at; nil means always.
	// It must be cheap: compare Table.Last of the tables.
	Relevant func(prev, next *store.Snapshot) bool
	// Sync brings the thing from prev to next. prev is nil at start and after
	// Resync or Wake: then nothing is known of the present state of the thing,
	// and all of it must be looked at.
	Sync func(ctx context.Context, prev, next *store.Snapshot) error
	// Done is called with each revision the thing stands for, also when
	// nothing relevant changed; may be nil.
	Done func(store.Revision)
	// Pause is the least time between two runs of Sync: a burst costs one run
	// at its start and one after the pause. 0 means none.
	Pause time.Duration
	// Rest is the same as a multiple of what the run took, where that is longer: what changes all the
	// time costs at most 1/(1+Rest) of a processor. Runs that looked at everything are followed at once.
	Rest float64
	// Resync is how often all is looked at again; 0 means never.
	Resync  time.Duration
	Backoff Backoff
	Health  *Health
	// Wake asks for a full resync at once, e.g. on drift; may be nil.
	Wake <-chan struct{}
}

// Run blocks until ctx ends, and then returns nil.
func (l *Loop) Run(ctx context.Context) error {
	var resync <-chan time.Time
	if l.Resync > 0 {
		ticker := time.NewTicker(l.Resync)
		defer ticker.Stop()
		resync = ticker.C
	}
	var prev *store.Snapshot
	failures := 0
	var notBefore time.Time // the end of a pause; no timer runs for it unless there is something to do
	for ctx.Err() == nil {
		next := l.Store.Snapshot()
		if wait := time.Until(notBefore); wait > 0 && l.work(prev, next) {
			if !sleep(ctx, wait) {
				return nil
			}
			continue // there may be more by now
		}
		began, incremental := time.Now(), prev != nil
		wait, ran := l.step(ctx, &prev, next, &failures)
		if ran && wait == 0 {
			pause := l.Pause
			if incremental {
				pause = max(pause, time.Duration(l.Rest*float64(time.Since(began))))
			}
			notBefore = time.Now().Add(pause)
		}
		// After a failure the wait comes first, then the next change counts.
		if wait > 0 && !sleep(ctx, wait) {
			return nil
		}
		if failures > 0 {
			continue
		}
		select {
		case <-ctx.Done():
		case <-next.Changed():
		case <-resync:
			prev = nil
		case <-l.Wake:
			prev = nil
		}
	}
	return nil
}

// work tells whether step would run Sync.
func (l *Loop) work(prev, next *store.Snapshot) bool {
	if l.Ready != nil && !l.Ready(next) {
		return false
	}
	return prev == nil || prev.Revision != next.Revision && (l.Relevant == nil || l.Relevant(prev, next))
}

// step looks at one snapshot; it gives the wait before a retry and whether Sync ran.
func (l *Loop) step(ctx context.Context, prev **store.Snapshot, next *store.Snapshot, failures *int) (time.Duration, bool) {
	if l.Ready != nil && !l.Ready(next) {
		l.Health.waiting(true)
		return 0, false
	}
	l.Health.waiting(false)
	if !l.work(*prev, next) {
		if (*prev).Revision != next.Revision {
			l.advance(prev, next)
		}
		return 0, false
	}
	err := l.Sync(ctx, *prev, next)
	if ctx.Err() != nil {
		return 0, true
	}
	l.Health.note(err)
	if err == nil {
		*failures = 0
		l.advance(prev, next)
		return 0, true
	}
	*failures++
	wait := l.Backoff.After(*failures)
	l.Log.Error("sync", "loop", l.Name, "revision", next.Revision, "err", err, "attempt", *failures, "retryIn", wait)
	return wait, true
}

func (l *Loop) advance(prev **store.Snapshot, next *store.Snapshot) {
	changed := *prev == nil || (*prev).Revision != next.Revision
	*prev = next
	if changed && l.Done != nil {
		l.Done(next.Revision)
	}
}

// sleep waits for d; false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
