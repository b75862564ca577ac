package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
)

// Cleanup removes everything that any back end has left in the kernel, and
// names what it removed.
func Cleanup(ctx context.Context, cfg Config) (removed []string, err error) {
	return cleanup(ctx, cfg, modes())
}

// Residue names everything that any back end has left in the kernel.
func Residue(ctx context.Context, cfg Config) ([]string, error) {
	var left []string
	err := each(cfg, modes(), func(_ string, b Backend) error {
		found, err := b.Residue(ctx)
		left = append(left, found...)
		return err
	})
	return left, err
}

// tidy removes what other modes have left, once this one does their work and
// nobody waits for it: that takes longer than to program the kernel. What
// cannot be removed is in nobody's way but to look at: the next start tries again.
func (p *Proxy) tidy(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-p.stands:
	}
	if p.deps.Backend != nil {
		return
	}
	p.changing.Lock()
	defer p.changing.Unlock()
	used := p.Choice().Mode
	others := slices.DeleteFunc(slices.Clone(p.modes), func(m mode) bool { return m.name == used })
	p.mu.Lock()
	if err := p.resume(ctx, others); err != nil {
		p.deps.Log.Debug("look for a mode that drains", "err", err)
	}
	p.mu.Unlock()
	if d := p.draining.Load(); d != nil {
		others = slices.DeleteFunc(others, func(m mode) bool { return m.name == d.Mode })
	}
	removed, err := cleanup(ctx, p.cfg, others)
	for _, what := range removed {
		p.deps.Log.Info("removed what another proxy mode had left", "what", what)
	}
	if err != nil && ctx.Err() == nil {
		p.deps.Log.Warn("remove what other proxy modes have left", "err", err)
	}
	theirs, err := Foreign(ctx, p.cfg.NetNS)
	for _, what := range theirs {
		p.deps.Log.Warn("kube-proxy runs beside us or has left rules: remove them with nodelet proxy cleanup --foreign", "what", what)
	}
	if err != nil {
		p.deps.Log.Debug("look for what kube-proxy has left", "err", err)
	}
}

// cleanup removes what these back ends have left.
func cleanup(ctx context.Context, cfg Config, of []mode) (removed []string, err error) {
	err = each(cfg, of, func(name string, b Backend) error {
		found, err := b.Residue(ctx)
		if err != nil || len(found) == 0 {
			return err
		}
		if err := b.Cleanup(ctx); err != nil {
			return fmt.Errorf("remove what mode %s has left: %w", name, err)
		}
		removed = append(removed, found...)
		return nil
	})
	return removed, err
}

// each opens every back end in turn, and goes on after errors. What this
// kernel does not have is left out: nothing of it can be there.
func each(cfg Config, of []mode, do func(name string, b Backend) error) error {
	var errs []error
	for _, m := range of {
		b, err := m.open(place{cfg, true, slog.New(slog.DiscardHandler)})
		if errors.Is(err, errors.ErrUnsupported) {
			continue
		}
		if err == nil {
			err = errors.Join(do(m.name, b), b.Close())
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
