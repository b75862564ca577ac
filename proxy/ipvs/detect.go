package ipvs

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"nodelet/internal/ipvs"
	"nodelet/internal/netns"
	"nodelet/internal/nl"
	"nodelet/proxy/nftables"
)

// Detect proves in a network namespace of its own that the kernel has what
// this package needs, and tells whether IPv6 works as well. It loads the
// kernel's modules.
func Detect(ctx context.Context, fd int, scheduler string) (ipv6 bool, err error) {
	if err := ipvs.Load(); err != nil {
		return false, fmt.Errorf("use IPVS for the service proxy: %w", err)
	}
	ipv6, err = nftables.Detect(ctx, fd)
	if err != nil {
		return false, err
	}
	ns, err := netns.New()
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, ns.Close()) }()
	if err := try(ns.Fd(), scheduler, netip.MustParseAddr("192.0.2.1")); err != nil {
		return false, fmt.Errorf("use IPVS for the service proxy: %w", err)
	}
	return ipv6 && try(ns.Fd(), scheduler, netip.MustParseAddr("2001:db8::1")) == nil, nil
}

// try makes the device, an address and a virtual server.
func try(fd int, scheduler string, a netip.Addr) error {
	if scheduler == "" {
		scheduler = DefaultScheduler
	}
	links, err := nl.OpenAt(fd)
	if err != nil {
		return err
	}
	defer links.Close()
	if err := links.AddDummy(device); err != nil {
		return err
	}
	link, err := links.Link(device)
	if err != nil {
		return err
	}
	if err := links.AddAddr(nl.Addr{Prefix: netip.PrefixFrom(a, a.BitLen()), Link: link.Index}); err != nil {
		return err
	}
	conn, err := ipvs.Open(fd)
	if err != nil {
		return err
	}
	defer conn.Close()
	v := ipvs.VirtualServer{Addr: a, Proto: unix.IPPROTO_TCP, Port: 80}
	if err := conn.Add(v, scheduler); err != nil {
		return err
	}
	return conn.AddReal(v, ipvs.RealServer{AddrPort: netip.AddrPortFrom(a.Next(), 8080), Weight: 1})
}
