package reconcile

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"

	"nodelet/internal/store"
)

// Keyed keeps many independent things in step with the store, one worker per
// key. A key that needs nothing costs nothing: workers exist only while a key
// has work.
type Keyed[K comparable] struct {
	Name  string
	Store *store.Store
	Log   *slog.Logger
	// Ready tells whether the tables Sync depends on are synced; nil means always.
	Ready func(*store.Snapshot) bool
	// Keys yields the keys to look at on the way from prev to next; all keys when prev is nil.
	Keys func(prev, next *store.Snapshot) iter.Seq[K]
	// Sync brings one key up to the snapshot. again > 0 asks to be called
	// again after that time even if nothing changes (a back-off ends, a deadline
	// passes). An error is retried with back-off.
	Sync func(ctx context.Context, key K, snap *store.Snapshot) (again time.Duration, err error)
	// Interrupt tells whether a Sync that runs on an older snapshot should have
	// its context cancelled because of a newer one; nil means never.
	Interrupt func(key K, running, next *store.Snapshot) bool
	// Parallel bounds the Syncs that run at the same time; 0 means no bound.
	// Keep it above what can hang.
	Parallel int
	// Resync is how often every key is looked at again; 0 means never.
	Resync  time.Duration
	Backoff Backoff
	Health  *Health
	// Hints names keys to look at now, apart from the store; may be nil.
	Hints <-chan K

	mu   sync.Mutex
	keys map[K]*worker
	// failing has what the last Sync of a key said that failed.
	failing map[K]error
	sem     chan struct{}
	wg      sync.WaitGroup
}

// worker is the state of one key that has work, runs, or waits for a time.
type worker struct {
	dirty    bool
	running  *store.Snapshot // nil when no Sync runs
	cancel   context.CancelFunc
	timer    *time.Timer
	failures int
}

// Run blocks until ctx ends and every worker has returned.
func (k *Keyed[K]) Run(ctx context.Context) error {
	k.keys, k.failing = map[K]*worker{}, map[K]error{}
	if k.Parallel > 0 {
		k.sem = make(chan struct{}, k.Parallel)
	}
	var resync <-chan time.Time
	if k.Resync > 0 {
		ticker := time.NewTicker(k.Resync)
		defer ticker.Stop()
		resync = ticker.C
	}
	defer k.wg.Wait()
	defer k.stopTimers()
	var prev *store.Snapshot
	for ctx.Err() == nil {
		next := k.Store.Snapshot()
		ready := k.Ready == nil || k.Ready(next)
		k.Health.waiting(!ready)
		if ready && (prev == nil || prev.Revision != next.Revision) {
			for key := range k.Keys(prev, next) {
				k.mark(ctx, key, next)
			}
			k.Health.started()
			prev = next
		}
		select {
		case <-ctx.Done():
		case <-next.Changed():
		case key := <-k.Hints:
			if ready {
				k.mark(ctx, key, k.Store.Snapshot())
			}
		case <-resync:
			prev = nil
		}
	}
	return nil
}

// mark notes that a key has work and sees to it that a worker does it.
func (k *Keyed[K]) mark(ctx context.Context, key K, snap *store.Snapshot) {
	k.mu.Lock()
	defer k.mu.Unlock()
	w := k.keys[key]
	if w == nil {
		w = &worker{}
		k.keys[key] = w
	}
	w.dirty = true
	if w.cancel != nil {
		if w.running != nil && k.Interrupt != nil && k.Interrupt(key, w.running, snap) {
			w.cancel()
		}
		return
	}
	k.start(ctx, key, w)
}

// start runs a worker for a key; k.mu is held.
func (k *Keyed[K]) start(ctx context.Context, key K, w *worker) {
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
	if ctx.Err() != nil {
		return
	}
	run, cancel := context.WithCancel(ctx)
	w.cancel = cancel
	k.wg.Go(func() {
		defer cancel()
		k.work(ctx, run, key, w)
	})
}

// work syncs one key once and arranges for what comes next.
func (k *Keyed[K]) work(ctx, run context.Context, key K, w *worker) {
	if k.sem != nil {
		select {
		case k.sem <- struct{}{}:
			defer func() { <-k.sem }()
		case <-ctx.Done():
			return
		}
	}
	snap := k.begin(w)
	again, err := k.Sync(run, key, snap)
	interrupted := run.Err() != nil
	if ctx.Err() != nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	w.running, w.cancel = nil, nil
	switch {
	case interrupted:
		w.failures = 0
		k.start(ctx, key, w)
		return
	case err != nil:
		w.failures++
		again = k.Backoff.After(w.failures)
		k.Log.Error("sync", "loop", k.Name, "key", key, "err", err, "attempt", w.failures, "retryIn", again)
	default:
		w.failures = 0
	}
	k.note(key, err)
	k.next(ctx, key, w, again)
}

// note says to Health how all keys fare, so that one that succeeds hides none that fails; k.mu is held.
func (k *Keyed[K]) note(key K, err error) {
	ok := err == nil
	if !ok {
		err = fmt.Errorf("%v: %w", key, err)
		k.failing[key] = err
	} else {
		delete(k.failing, key)
		for _, err = range k.failing { // any of them
			break
		}
	}
	k.Health.noteOf(ok, err, len(k.failing))
}

// begin takes the newest snapshot: all that was marked before is in it.
func (k *Keyed[K]) begin(w *worker) *store.Snapshot {
	k.mu.Lock()
	defer k.mu.Unlock()
	w.dirty = false
	w.running = k.Store.Snapshot()
	return w.running
}

// next decides what a key does after a Sync; k.mu is held. News beats a
// back-off: something changed, so trying again at once is worth it.
func (k *Keyed[K]) next(ctx context.Context, key K, w *worker, again time.Duration) {
	switch {
	case w.dirty:
		k.start(ctx, key, w)
	case again > 0:
		w.timer = time.AfterFunc(again, func() { k.due(ctx, key, w) })
	default:
		delete(k.keys, key)
	}
}

func (k *Keyed[K]) due(ctx context.Context, key K, w *worker) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if w.timer == nil || w.cancel != nil || ctx.Err() != nil {
		return
	}
	k.start(ctx, key, w)
}

func (k *Keyed[K]) stopTimers() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, w := range k.keys {
		if w.timer != nil {
			w.timer.Stop()
		}
	}
}
