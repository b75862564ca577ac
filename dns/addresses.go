package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"nodelet/internal/nl"
)

// addressCheck is how often the addresses are looked at: somebody may have
// flushed the link. A netlink dump costs some tens of microseconds.
const addressCheck = 30 * time.Second

// Addresses puts addresses on a link of the host.
type Addresses interface {
	// Observe lists which of the wanted addresses the link has.
	Observe(want []netip.Addr) ([]netip.Addr, error)
	Add(netip.Addr) error
	Remove(netip.Addr) error
}

// kernelAddresses is rtnetlink. An address is ours when it is one of the
// configured ones, as a host prefix on the configured link: there is nothing
// else to tell it by.
type kernelAddresses struct{ link string }

func hostPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// with runs f with a connection and the index of the link.
func (k kernelAddresses) with(f func(c *nl.Conn, link int) error) error {
	c, err := nl.Open()
	if err != nil {
		return err
	}
	defer c.Close()
	l, err := c.Link(k.link)
	if err != nil {
		return err
	}
	return f(c, l.Index)
}

// Observe lists which of the wanted addresses the link has.
func (k kernelAddresses) Observe(want []netip.Addr) (have []netip.Addr, err error) {
	err = k.with(func(c *nl.Conn, link int) error {
		all, err := c.Addrs(link)
		for _, a := range all {
			if slices.Contains(want, a.Prefix.Addr()) {
				have = append(have, a.Prefix.Addr())
			}
		}
		return err
	})
	return have, err
}

// Add puts one address on the link.
func (k kernelAddresses) Add(a netip.Addr) error {
	return k.with(func(c *nl.Conn, link int) error { return c.AddAddr(nl.Addr{Prefix: hostPrefix(a), Link: link}) })
}

// Remove takes one address off the link.
func (k kernelAddresses) Remove(a netip.Addr) error {
	return k.with(func(c *nl.Conn, link int) error { return c.DeleteAddr(nl.Addr{Prefix: hostPrefix(a), Link: link}) })
}

// keepAddresses puts the addresses on the link and back whenever they are gone.
func (d *DNS) keepAddresses(ctx context.Context) error {
	ticker := time.NewTicker(addressCheck)
	defer ticker.Stop()
	last := ""
	for {
		err := d.applyAddresses()
		if text := fmt.Sprint(err); text != last {
			last = text
			if err != nil {
				d.log.Error("apply addresses", "link", d.c.Link, "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (d *DNS) applyAddresses() error {
	have, err := d.addresses.Observe(d.c.ListenAddrs)
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", d.c.Link, err)
	}
	var errs []error
	for _, a := range d.c.ListenAddrs {
		if slices.Contains(have, a) || a.IsLoopback() {
			continue
		}
		if err := d.addresses.Add(a); err != nil {
			errs = append(errs, err)
			continue
		}
		d.log.Info("added dns address", "address", a, "link", d.c.Link)
	}
	return errors.Join(errs...)
}

// Cleanup removes what stays when the daemon ends: the addresses. It is part of
// reset, when nothing serves any more.
func (d *DNS) Cleanup(context.Context) error {
	if d.c.Link == "" {
		return nil
	}
	have, err := d.addresses.Observe(d.c.ListenAddrs)
	errs := []error{err}
	for _, a := range have {
		if !a.IsLoopback() {
			errs = append(errs, d.addresses.Remove(a))
		}
	}
	return errors.Join(errs...)
}

// Residue lists what Cleanup would remove.
func (d *DNS) Residue(context.Context) ([]string, error) {
	if d.c.Link == "" {
		return nil, nil
	}
	have, err := d.addresses.Observe(d.c.ListenAddrs)
	var left []string
	for _, a := range have {
		if !a.IsLoopback() {
			left = append(left, fmt.Sprintf("address %s on %s", a, d.c.Link))
		}
	}
	return left, err
}
