package agent

import (
	"context"
	"sync"
	"time"

	"nodelet/internal/model"
)

// flights are the actions that take long: hooks, and stopping a container with
// a grace period. Each runs beside its pod's worker, at most one for a container.
type flights struct {
	done chan<- model.UID

	mu  sync.Mutex
	ctx context.Context
	now map[string]*flight // by container id
	wg  sync.WaitGroup
}

type flight struct {
	kind string
	// deadline is when it should be over at the latest.
	deadline time.Time
	// over tells whether it has been done already, for what must not be done
	// again by a plan that was made a moment before it ended; may be nil.
	over   func() bool
	cancel context.CancelFunc
}

// tolerance is by how much a deadline must come forward to be news: the same
// plan made a moment later must not restart what is under way.
const tolerance = 500 * time.Millisecond

func newFlights(done chan<- model.UID) *flights {
	return &flights{done: done, now: map[string]*flight{}}
}

func (f *flights) begin(ctx context.Context) { f.ctx = ctx }

func (f *flights) wait() { f.wg.Wait() }

// launch runs do for a container, unless the same is under way already. What
// is under way for another purpose or with a later deadline is cancelled
// first. The pod is looked at again when it is over.
func (f *flights) launch(uid model.UID, id string, next flight, do func(context.Context)) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if old := f.now[id]; old != nil {
		if old.kind == next.kind && !next.deadline.Add(tolerance).Before(old.deadline) {
			return false
		}
		old.cancel()
	} else if next.over != nil && next.over() {
		return false
	}
	ctx, cancel := context.WithCancel(f.ctx)
	next.cancel = cancel
	mine := &next
	f.now[id] = mine
	f.wg.Go(func() {
		defer cancel()
		do(ctx)
		f.mu.Lock()
		if f.now[id] == mine {
			delete(f.now, id)
		}
		f.mu.Unlock()
		select {
		case f.done <- uid:
		case <-f.ctx.Done():
		}
	})
	return true
}
