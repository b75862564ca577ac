package proxy

import (
	"context"
	"errors"
	"fmt"

	"nodelet/proxy/lb"
)

// Explainer is a back end that can say what the kernel holds.
type Explainer interface {
	// ReadBack reads what the kernel holds about a frontend and compares it with
	// what the State says. It changes nothing, and unlike the rest of a Backend
	// it may be called by any goroutine at any time.
	ReadBack(ctx context.Context, want *lb.State, about lb.Frontend) (lb.Kernel, error)
}

// ErrNoReadBack says that a back end cannot be asked.
var ErrNoReadBack = errors.New("this back end cannot say what the kernel holds")

// readBackTries bounds how often the comparison is repeated because the kernel
// was being changed meanwhile.
const readBackTries = 3

// ReadBack compares what the kernel holds about a frontend with the State that
// was written last, which it gives as well.
func (p *Proxy) ReadBack(ctx context.Context, about lb.Frontend) (lb.Kernel, *lb.State, error) {
	e, ok := p.engine.Load().Backend.(Explainer)
	if !ok {
		return lb.Kernel{}, p.State(), fmt.Errorf("read back %s: %w", about, ErrNoReadBack)
	}
	for try := 1; ; try++ {
		state := p.State()
		if state == nil {
			return lb.Kernel{}, nil, errors.New("read back: the service proxy has not programmed the kernel yet")
		}
		k, err := e.ReadBack(ctx, state, about)
		// A round of the proxy that ended meanwhile would show as a difference.
		if err != nil || p.State() == state || try == readBackTries {
			return k, state, err
		}
	}
}
