package proxy

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"nodelet/internal/conntrack"
	"nodelet/internal/netns"
	"nodelet/internal/store"
	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
)

// paper is a back end on paper.
type paper struct {
	fail    error
	applied *lb.State
	cleaned int
	closed  int
}

func (b *paper) Apply(_ context.Context, want *lb.State) (lb.Result, error) {
	if b.fail == nil {
		b.applied = want
	}
	return lb.Result{Full: true, Messages: 1}, b.fail
}
func (b *paper) Forget()                                   {}
func (b *paper) Untouched(context.Context) bool            { return true }
func (b *paper) Cleanup(context.Context) error             { b.cleaned++; return nil }
func (b *paper) Residue(context.Context) ([]string, error) { return nil, nil }
func (b *paper) Close() error                              { b.closed++; return nil }

// leaving is a back end that has left something, and whose removal waits.
type leaving struct {
	paper
	wait, removed chan struct{}
}

func (b *leaving) Residue(context.Context) ([]string, error) { return []string{"a rule"}, nil }
func (b *leaving) Cleanup(ctx context.Context) error {
	select {
	case <-b.wait:
		close(b.removed)
	case <-ctx.Done():
	}
	return ctx.Err()
}

// TestTidyHoldsUpNothing: what another mode has left is removed after Services
// work, and while it is removed the kernel is programmed.
func TestTidyHoldsUpNothing(t *testing.T) {
	other := &leaving{wait: make(chan struct{}), removed: make(chan struct{})}
	w := lbtest.MustParse("node n1 192.168.0.1")
	known := func(name string, b Backend) mode {
		return mode{name: name, probe: func(context.Context, Config) (bool, error) { return true, nil }, open: func(place) (Backend, error) { return b, nil }}
	}
	ns := ownNamespace(t)
	p := &Proxy{
		cfg: Config{NetNS: ns}, deps: Deps{Store: w.Store, Log: slog.New(slog.DiscardHandler)}, drift: newDrift(), meaning: &lb.Config{NodeName: "n1"},
		checks: &checks{}, stands: make(chan struct{}), modes: []mode{known("used", &paper{}), known("other", other)},
	}
	p.engine.Store(&engine{Backend: &paper{}, choice: Choice{Mode: "used"}})
	var err error
	if p.flows, err = conntrack.Open(ns); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	for range 3 { // the removal still waits
		if err := w.Apply("service a/x ClusterIP 10.96.0.1 p:80/TCP"); err != nil {
			t.Fatal(err)
		}
		for snap := w.Snapshot(); w.Snapshot().Applied[store.Proxy] < snap.Revision; {
			select {
			case <-w.Snapshot().Changed():
			case <-other.removed:
				t.Fatal("removed before anything was programmed")
			case <-time.After(time.Minute):
				t.Fatal("the removal holds up the programming")
			}
		}
	}
	close(other.wait)
	<-other.removed
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// ownNamespace is a network namespace, by its file descriptor.
func ownNamespace(t *testing.T) int {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	return ns.Fd()
}

func TestSwitchRollsBack(t *testing.T) {
	old, next := &paper{}, &paper{}
	state := lb.Compile(&lb.Config{NodeName: "n1"}, lbtest.New().Snapshot())
	p := &Proxy{deps: Deps{Log: slog.New(slog.DiscardHandler)}, drift: newDrift(), ctx: t.Context(), modes: []mode{{
		name: "next", probe: func(context.Context, Config) (bool, error) { return true, nil },
		open: func(place) (Backend, error) { return next, nil },
	}}}
	p.engine.Store(&engine{Backend: old, choice: Choice{Mode: "old"}})
	if _, err := p.Switch(t.Context(), "next"); err == nil || !strings.Contains(err.Error(), "nothing is programmed yet") {
		t.Errorf("before the first sync: %v", err)
	}
	p.state.Store(state)
	next.fail = errors.New("kernel says no")
	if _, err := p.Switch(t.Context(), "next"); err == nil || !strings.Contains(err.Error(), "rolled back; old goes on") {
		t.Errorf("a back end that fails: %v", err)
	}
	if p.Choice().Mode != "old" || old.cleaned != 0 || old.closed != 0 || next.cleaned != 1 || next.closed != 1 {
		t.Errorf("after the rollback: %s, old %+v, next %+v", p.Choice().Mode, old, next)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	next.fail = nil
	if _, err := p.Switch(gone, "next"); err == nil || p.Choice().Mode != "old" || next.cleaned != 2 {
		t.Errorf("the asker is gone: %v, %s, %+v", err, p.Choice().Mode, next)
	}
	if done, err := p.Switch(t.Context(), "next"); err != nil || done.From != "old" || done.To != "next" {
		t.Errorf("switch: %+v %v", done, err)
	}
	if p.Choice().Mode != "next" || old.cleaned != 1 || old.closed != 1 || next.applied != state {
		t.Errorf("after the switch: %s, old %+v, next %+v", p.Choice().Mode, old, next)
	}
}
