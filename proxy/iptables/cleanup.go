package iptables

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"nodelet/internal/xtables"
)

// Cleanup removes our chains from both variants: an earlier start may have used the other.
func (b *Backend) Cleanup(ctx context.Context) error {
	b.Forget()
	return b.each(ctx, func(bulk *xtables.Bulk, table string, f found) error {
		e := edit{unlink: f.jumps, remove: slices.Collect(maps.Keys(f.chains))}
		var text strings.Builder
		e.text(&text, table)
		return bulk.Restore(ctx, []byte(text.String()))
	})
}

// Residue names what is left of ours in both variants.
func (b *Backend) Residue(ctx context.Context) (out []string, err error) {
	err = b.each(ctx, func(bulk *xtables.Bulk, table string, f found) error {
		out = append(out, fmt.Sprintf("%s table %s: %d chains %s*, %d jumps to them", bulk, table, len(f.chains), prefix, len(f.jumps)))
		return nil
	})
	return out, err
}

// each visits every table that holds something of ours.
func (b *Backend) each(ctx context.Context, do func(*xtables.Bulk, string, found) error) error {
	var errs []error
	for _, v := range []xtables.Variant{xtables.Legacy, xtables.NFT} {
		for _, ipv6 := range []bool{false, true} {
			errs = append(errs, visit(ctx, place{v, ipv6, b.cfg.NetNS}, do))
		}
	}
	return errors.Join(errs...)
}

// place is one variant and family of one namespace.
type place struct {
	variant xtables.Variant
	ipv6    bool
	netns   int
}

func visit(ctx context.Context, at place, do func(*xtables.Bulk, string, found) error) error {
	bulk, err := xtables.OpenBulk(at.variant, at.ipv6, at.netns)
	if errors.Is(err, xtables.ErrNotInstalled) {
		return nil // nothing to see it with: then nobody has written it, here
	}
	if err != nil {
		return err
	}
	defer func() { _ = bulk.Close() }()
	var errs []error
	for _, table := range tables {
		text, err := bulk.Save(ctx, table)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if f := parse(text); !f.empty() {
			errs = append(errs, do(bulk, table, f))
		}
	}
	return errors.Join(errs...)
}
