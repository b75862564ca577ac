package proxy

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

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
