package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"nodelet/proxy/lb"
)

// drainLimit is how long a mode that was switched away from may serve what
// began with it.
const drainLimit = 2 * time.Hour

// drainer is a back end whose translation is its own: what began with it can
// only end with it.
type drainer interface {
	// Drain leaves what begins to another back end, and gives the number of
	// connections that still need this one.
	Drain(ctx context.Context, want *lb.State) (left int, err error)
}

// remembered is a drainer whose kernel objects say that it drains, and since
// when: also of a fresh back end, after a restart.
type remembered interface {
	Draining() (since time.Time, is bool, err error)
}

// Draining is a mode that was switched away from and serves what began with it.
type Draining struct {
	Mode string `json:"mode"`
	// Connections are those that needed it when it was last looked at.
	Connections int       `json:"connections"`
	Since       time.Time `json:"since"`
	// Until is when it ends at the latest.
	Until time.Time `json:"until"`
}

// drained is the engine of such a mode.
type drained struct {
	*engine
	Draining
}

// letDrain keeps an engine as long as connections need it. It is false when
// none do, or when it cannot: then its rules can go.
func (p *Proxy) letDrain(ctx context.Context, old *engine, since time.Time) bool {
	d, ok := old.Backend.(drainer)
	if !ok && p.Choice().Mode == EBPF { // all other modes are netfilter's, and go on in one another
		k := natKeeper{old.Backend, p}
		old = &engine{Backend: k, choice: old.choice, stop: old.stop}
		d, ok = k, true
	}
	if !ok {
		return false
	}
	left, err := d.Drain(ctx, p.state.Load())
	if err != nil {
		p.deps.Log.Warn("connections of the mode that was switched away from cannot be kept", "mode", old.choice.Mode, "err", err)
		return false
	}
	if left == 0 || time.Since(since) > drainLimit {
		return false
	}
	p.countDraining(left)
	before := p.draining.Swap(&drained{old, Draining{Mode: old.choice.Mode, Connections: left, Since: since, Until: since.Add(drainLimit)}})
	if before != nil && before.engine != old {
		// Two switches in a row. It was one of netfilter's, and so is the mode in
		// use now: the kernel goes on translating without it.
		if err := errors.Join(before.Cleanup(ctx), before.end()); err != nil {
			p.deps.Log.Warn("remove the rules of a mode that was switched away from", "mode", before.Mode, "err", err)
		}
	}
	return true
}

// drain keeps a mode that was switched away from in step, and ends it when
// nothing needs it any more. look: count again.
func (p *Proxy) drain(ctx context.Context, state *lb.State, look bool) {
	d := p.draining.Load()
	if d == nil {
		return
	}
	if !look {
		if _, err := d.Apply(ctx, state); err != nil {
			p.deps.Log.Warn("keep the mode that was switched away from in step", "mode", d.Mode, "err", err)
		}
		return
	}
	if p.letDrain(ctx, d.engine, d.Since) {
		return
	}
	p.draining.Store(nil)
	p.countDraining(0)
	if err := errors.Join(d.Cleanup(ctx), d.end()); err != nil {
		p.deps.Log.Warn("remove the rules of the mode that was switched away from", "mode", d.Mode, "err", err)
		return
	}
	p.deps.Log.Info("the mode that was switched away from is removed: no connection needs it any more", "mode", d.Mode, "after", time.Since(d.Since).Round(time.Second))
}

// undrain lets go of an engine that drains, and leaves the kernel as it is: the
// same mode has taken it over, or the daemon ends.
func (p *Proxy) undrain() error {
	d := p.draining.Swap(nil)
	if d == nil {
		return nil
	}
	return d.end()
}

// resume finds the mode that drained when the daemon ended.
func (p *Proxy) resume(ctx context.Context, others []mode) error {
	var errs []error
	for _, m := range others {
		b, err := m.open(place{p.cfg, true, p.deps.Log})
		if errors.Is(err, errors.ErrUnsupported) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		since, is, err := p.wasDraining(ctx, b)
		if err != nil {
			errs = append(errs, fmt.Errorf("look whether mode %s drains: %w", m.name, err))
		}
		if !is || p.draining.Load() != nil || !p.letDrain(ctx, &engine{Backend: b, choice: Choice{Mode: m.name}}, since) {
			errs = append(errs, b.Close())
		}
	}
	return errors.Join(errs...)
}

// wasDraining tells whether a back end that nobody uses drains.
func (p *Proxy) wasDraining(ctx context.Context, b Backend) (since time.Time, is bool, err error) {
	if d, ok := b.(remembered); ok {
		return d.Draining()
	}
	if p.Choice().Mode != EBPF {
		return since, false, nil
	}
	left, err := b.Residue(ctx)
	return time.Now(), len(left) > 0, err
}

func unspecified(ipv6 bool) netip.Addr {
	if ipv6 {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

func (p *Proxy) countDraining(connections int) {
	if f := p.deps.Metrics.Draining; f != nil {
		f(connections)
	}
}
