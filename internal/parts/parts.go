package parts

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Group is a set of parts that run until its context ends or one of them fails.
type Group struct {
	ctx     context.Context
	group   *errgroup.Group
	prefix  string
	running *running
}

// running has the names of the parts that have not ended, over all groups below one.
type running struct {
	mu    sync.Mutex
	names map[string]bool
}

// New is a group without parts yet. Parts run under a context that ends with ctx, or when a part fails.
func New(ctx context.Context) *Group {
	group, ctx := errgroup.WithContext(ctx)
	return &Group{ctx: ctx, group: group, running: &running{names: map[string]bool{}}}
}

// Within is a group of parts of the part called name, with its own context below ctx. What has not
// ended there is named by Wait of the group above as well, as long as that one's limit is the shorter.
func (g *Group) Within(ctx context.Context, name string) *Group {
	group, ctx := errgroup.WithContext(ctx)
	return &Group{ctx: ctx, group: group, prefix: g.prefix + name + "/", running: g.running}
}

// Go starts a part. The end of its context is no failure, whatever run then returns.
func (g *Group) Go(name string, run func(context.Context) error) {
	g.running.set(g.prefix+name, true)
	g.group.Go(func() error {
		defer g.running.set(g.prefix+name, false)
		if err := run(g.ctx); err != nil && g.ctx.Err() == nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
}

// Wait returns when all parts have ended, with the first failure. When some have not ended within limit
// after they were told to, it returns a *StuckError, and these go on.
func (g *Group) Wait(limit time.Duration) error {
	ended := make(chan error, 1)
	go func() { ended <- g.group.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-g.ctx.Done():
	}
	patience := time.NewTimer(limit)
	defer patience.Stop()
	select {
	case err := <-ended:
		return err
	case <-patience.C:
		stuck := &StuckError{Parts: g.running.list(g.prefix), Limit: limit, Stacks: stacks()}
		if cause := context.Cause(g.ctx); !errors.Is(cause, g.ctx.Err()) {
			stuck.Cause = cause
		}
		return stuck
	}
}

// StuckError says which parts did not end.
type StuckError struct {
	// Cause is the failure that ended the others; nil when they were told to end.
	Cause error
	Parts []string
	Limit time.Duration
	// Stacks of all goroutines at that time, as the runtime prints them.
	Stacks []byte
}

// Error names the parts; the stacks are for a file.
func (e *StuckError) Error() string {
	text := fmt.Sprintf("not ended within %s: %s", e.Limit, strings.Join(e.Parts, ", "))
	if e.Cause != nil {
		text = e.Cause.Error() + "; after it " + text
	}
	return text
}

// Unwrap is the failure.
func (e *StuckError) Unwrap() error { return e.Cause }

func (r *running) set(name string, on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if on {
		r.names[name] = true
	} else {
		delete(r.names, name)
	}
}

// list gives the names below a prefix, in order.
func (r *running) list(prefix string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(r.names)), func(n string) bool { return !strings.HasPrefix(n, prefix) })
}

// stacks is at most 4 MiB of text.
func stacks() []byte {
	buf := make([]byte, 4<<20)
	return buf[:runtime.Stack(buf, true)]
}
