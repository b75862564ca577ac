package proxy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"nodelet/proxy/lb"
)

// engine is a back end at work.
type engine struct {
	Backend
	choice Choice
	// stop ends what follows the kernel for the back end; nil when nothing does.
	stop func()
}

// ported is a Backend that writes nf_tables by a connection of its own.
type ported interface {
	// Port is the netlink port of that connection.
	Port() uint32
}

// owns tells whether a netlink port is of a back end of ours. That of one that is not yet, or no longer,
// in use counts as foreign: it costs one look.
func (p *Proxy) owns(port uint32) bool {
	if b, ok := p.engine.Load().Backend.(ported); ok && b.Port() == port {
		return true
	}
	if d := p.draining.Load(); d != nil {
		b, ok := d.Backend.(ported)
		return ok && b.Port() == port
	}
	return false
}

// start lets the back end follow the kernel, if it wants to.
func (e *engine) start(ctx context.Context, failed func(error)) {
	r, ok := e.Backend.(runner)
	if !ok {
		return
	}
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer close(done)
		if err := r.Run(ctx); err != nil {
			failed(err)
		}
	}()
	e.stop = func() {
		cancel()
		<-done
	}
}

// end stops the back end; the rules stay.
func (e *engine) end() error {
	if e.stop != nil {
		e.stop()
	}
	return e.Close()
}

// Switched says what a change of mode came to.
type Switched struct {
	From string `json:"from"`
	To   string `json:"to"`
	// Steps are sentences about what was done, in order.
	Steps []string `json:"steps"`
}

// Switch changes the mode while traffic flows: the new back end takes over
// before the old one goes, and established connections live in conntrack,
// which nobody touches. When the new one cannot be had, everything stays, or
// is put back, as it was.
func (p *Proxy) Switch(ctx context.Context, mode string) (Switched, error) {
	p.changing.Lock()
	defer p.changing.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	report := Switched{From: p.engine.Load().choice.Mode, To: mode}
	step := func(format string, args ...any) {
		report.Steps = append(report.Steps, fmt.Sprintf(format, args...))
		p.deps.Log.Info("switch proxy mode: " + report.Steps[len(report.Steps)-1])
	}
	state := p.state.Load()
	switch {
	case mode == report.From:
		return report, fmt.Errorf("switch proxy mode: %s is in use already", mode)
	case state == nil || p.ctx == nil:
		return report, errors.New("switch proxy mode: nothing is programmed yet; see nodelet status")
	}
	cfg := p.cfg
	cfg.Mode = mode
	next, choice, err := open(ctx, p.modes, cfg, p.deps.Log)
	if err != nil {
		return report, fmt.Errorf("switch proxy mode to %s (nothing was changed): %w", mode, err)
	}
	report.To = choice.Mode
	if choice.Mode == report.From { // auto came to the same: its rules are those in use
		return report, errors.Join(fmt.Errorf("switch proxy mode: %s comes to %s, which is in use already", mode, choice.Mode), next.Close())
	}
	step("%s: proven to work here (IPv6 %t)", choice.Mode, choice.IPv6)
	fresh := &engine{Backend: next, choice: choice}
	if err := p.program(ctx, fresh, state, step); err != nil {
		// Also when the asker is gone: what was half made must not stay.
		back := errors.Join(next.Cleanup(context.WithoutCancel(ctx)), next.Close())
		return report, errors.Join(fmt.Errorf("switch proxy mode to %s (rolled back; %s goes on): %w", choice.Mode, report.From, err), back)
	}
	p.retire(ctx, fresh, step)
	return report, nil
}

func (p *Proxy) program(ctx context.Context, fresh *engine, state *lb.State, step func(string, ...any)) error {
	begin := time.Now()
	p.offer(ctx, fresh.Backend)
	result, err := fresh.Apply(ctx, state)
	if err != nil {
		return err
	}
	step("%s: %d frontends written in %s; both modes say the same now", fresh.choice.Mode, state.Len(), time.Since(begin).Round(time.Millisecond))
	if err := ctx.Err(); err != nil {
		return err
	}
	p.rules.Store(&result.Rules)
	if n := p.takenOver(ctx, fresh.Backend); n > 0 {
		step("%s: takes over %d UDP flows, each to its endpoint", fresh.choice.Mode, n)
	}
	return nil
}

// retire puts fresh in the place of the engine in use, and removes that one's rules.
func (p *Proxy) retire(ctx context.Context, fresh *engine, step func(string, ...any)) {
	old := p.engine.Load()
	if d := p.draining.Load(); d != nil && d.Mode == fresh.choice.Mode { // its programs are those of fresh now
		if err := p.undrain(); err != nil {
			step("%s: %v", d.Mode, err)
		}
	}
	p.engine.Store(fresh)
	p.drift.muteOf(fresh.Backend)
	fresh.start(p.ctx, p.notFollowed)
	// From here on there is no way back, and the asker need not wait for it.
	ctx = context.WithoutCancel(ctx)
	if old.stop != nil {
		old.stop()
		old.stop = nil
	}
	if p.letDrain(ctx, old, time.Now()) {
		step("%s: %d connections that it translates itself go on until they end, %s at most; nodelet proxy status shows them", old.choice.Mode, p.draining.Load().Connections, drainLimit)
		return
	}
	if err := old.Cleanup(ctx); err != nil {
		step("%s: its rules could not all be removed, which harms nobody; the next start tries again: %v", old.choice.Mode, err)
	} else {
		step("%s: its rules are removed; connection tracking was not touched", old.choice.Mode)
	}
	if err := old.end(); err != nil {
		step("%s: %v", old.choice.Mode, err)
	}
}

func (p *Proxy) notFollowed(err error) {
	p.deps.Log.Error("watch the node's links for the service proxy", "err", err)
}

// Choice is the mode in use, and why.
func (p *Proxy) Choice() Choice { return p.engine.Load().choice }
