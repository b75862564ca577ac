package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
)

// Cleanup removes everything that any back end has left in the kernel, and
// names what it removed.
func Cleanup(ctx context.Context, cfg Config) (removed []string, err error) {
	return cleanup(ctx, cfg, "")
}

// Residue names everything that any back end has left in the kernel.
func Residue(ctx context.Context, cfg Config) ([]string, error) {
	var left []string
	err := each(cfg, "", func(_ string, b Backend) error {
		found, err := b.Residue(ctx)
		left = append(left, found...)
		return err
	})
	return left, err
}

// cleanup removes what all back ends but one have left.
func cleanup(ctx context.Context, cfg Config, but string) (removed []string, err error) {
	err = each(cfg, but, func(name string, b Backend) error {
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

// each opens every back end but one in turn, and goes on after errors. What
// this kernel does not have is left out: nothing of it can be there.
func each(cfg Config, but string, do func(name string, b Backend) error) error {
	var errs []error
	for _, m := range modes() {
		if m.name == but {
			continue
		}
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
