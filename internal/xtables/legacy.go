package xtables

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"nodelet/internal/netns"
	"nodelet/internal/nft/sim"
)

// LegacyTables reads everybody's legacy tables of a family, as far as they
// exist, for package sim. netnsFD is a file descriptor of the network
// namespace; 0 is the process's own. Where there are tables and no program to
// read them, the error wraps ErrNotInstalled.
func LegacyTables(ctx context.Context, netnsFD int, ipv6 bool) (out []sim.Table, err error) {
	names, err := legacyInUse(netnsFD, ipv6)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	b, err := OpenBulk(Legacy, ipv6, netnsFD)
	if err != nil {
		return nil, fmt.Errorf("read legacy tables %s: %w", strings.Join(names, ", "), err)
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	for _, name := range names {
		text, err := b.Save(ctx, name)
		if err != nil {
			return nil, err
		}
		tables, err := sim.ParseSave(text, ipv6)
		if err != nil {
			return nil, err
		}
		out = append(out, tables...)
	}
	return out, nil
}

// legacyInUse names the legacy tables that exist.
func legacyInUse(netnsFD int, ipv6 bool) (names []string, err error) {
	err = at(netnsFD, func() error {
		for _, name := range []string{"raw", "mangle", "nat", "filter", "security"} {
			if InUse(name, ipv6) {
				names = append(names, name)
			}
		}
		return nil
	})
	return names, err
}

// Remembers tells whether a list of the match recent has an address. An entry
// that is over stays until the list is asked the next time, and counts.
func Remembers(netnsFD int, list string, a netip.Addr) (found bool, err error) {
	if strings.ContainsAny(list, "/\x00") || list == "" {
		return false, fmt.Errorf("read list %q of xt_recent: no such name", list)
	}
	err = at(netnsFD, func() error {
		f, err := os.Open("/proc/thread-self/net/xt_recent/" + list)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read list %s of xt_recent: %w", list, err)
		}
		defer func() { _ = f.Close() }()
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			src, _, _ := strings.Cut(strings.TrimPrefix(lines.Text(), "src="), " ")
			// IPv6 addresses are printed in full.
			if has, err := netip.ParseAddr(src); err == nil && has == a {
				found = true
			}
		}
		return lines.Err()
	})
	return found, err
}

// at runs f in a network namespace.
func at(netnsFD int, f func() error) error {
	if netnsFD <= 0 {
		return f()
	}
	ns, err := netns.Open(fmt.Sprintf("/proc/self/fd/%d", netnsFD))
	if err != nil {
		return err
	}
	return errors.Join(ns.Do(f), ns.Close())
}
