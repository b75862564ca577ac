package serve

import (
	"context"
	"fmt"
	"time"
)

// part is one long-running piece of the control plane.
type part struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{}
}

// launch runs a part beside the others. Its context is not the caller's: parts
// are stopped one by one, in order. When it ends without being told to, fail
// hears why.
func launch(name string, fail func(error), run func(context.Context) error) *part {
	ctx, cancel := context.WithCancel(context.Background())
	p := &part{name: name, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		err := run(ctx)
		if ctx.Err() != nil {
			return // as told
		}
		if err == nil {
			err = fmt.Errorf("ended without being told to")
		}
		fail(fmt.Errorf("%s: %w", name, err))
	}()
	return p
}

// stop ends the part and tells whether it did so in time.
func (p *part) stop(within time.Duration) bool {
	p.cancel()
	select {
	case <-p.done:
		return true
	case <-time.After(within):
		return false
	}
}
