package ebpf

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"nodelet/internal/netns"
	"nodelet/internal/nl"
	"nodelet/proxy/lb"
)

// place is what matters of the node's links and addresses.
type place struct {
	locals  map[proxyAddr]proxyLocal
	devices map[uint32]proxyDevice
}

// ethernet is the length of its header.
const ethernet = 14

// placeOf lists where the programs have to be, and what they have to know
// there. Loopback is left out: what is on it never left the node, and the
// node's own sockets are balanced when they connect. So are ifb links: what
// goes through them has been seen where it was received.
func placeOf(cfg *lb.Config, s *lb.State, links []nl.Link, addrs []nl.Addr) place {
	p := place{devices: map[uint32]proxyDevice{}}
	var all []netip.Addr
	for _, a := range addrs {
		all = append(all, a.Prefix.Addr())
	}
	p.locals = asLocals(cfg, all)
	for _, l := range links {
		if l.Loopback || l.Kind == "ifb" {
			continue
		}
		d := proxyDevice{}
		if len(l.MAC) > 0 {
			d.L2 = ethernet
		}
		if a, ok := sourceOn(l.Index, s, addrs, false); ok {
			d.Four = encodeAddr(a)
		}
		if a, ok := sourceOn(l.Index, s, addrs, true); ok {
			d.Six = encodeAddr(a)
		}
		p.devices[uint32(l.Index)] = d
	}
	return p
}

// sourceOn gives the node's address towards a link: the link's own; else the
// one the API knows the node by; else any that can be reached from elsewhere.
func sourceOn(link int, s *lb.State, addrs []nl.Addr, ipv6 bool) (netip.Addr, bool) {
	best, rank := netip.Addr{}, 0
	for _, a := range addrs {
		ip := a.Prefix.Addr()
		if ip.Is6() != ipv6 || ip.IsLoopback() || ip.IsLinkLocalUnicast() {
			continue
		}
		r := 1
		switch {
		case a.Link == link && !a.NotSource:
			r = 3
		case s.LocalAddr(ip):
			r = 2
		case !a.Global:
			continue // a service's address on the loopback device
		}
		if r > rank {
			best, rank = ip, r
		}
	}
	return best, rank > 0
}

// syncDevices brings maps locals and devices and the programs' places in step
// with the node's links. It gives the number of changes.
func (b *Backend) syncDevices(want *lb.State) (changes int, err error) {
	err = b.inside(func() error {
		c, err := nl.Open()
		if err != nil {
			return err
		}
		defer c.Close()
		links, addrs, err := linksOf(c)
		if err != nil {
			return err
		}
		if changes, err = b.writePlace(placeOf(want.Config(), want, links, addrs)); err != nil {
			return err
		}
		n, err := b.syncShortcuts(links, addrs)
		changes += n
		return err
	})
	return changes, err
}

// linksOf reads the node's links and addresses.
func linksOf(c *nl.Conn) (links []nl.Link, addrs []nl.Addr, err error) {
	if links, err = c.Links(); err != nil {
		return nil, nil, err
	}
	addrs, err = c.Addrs(0)
	return links, addrs, err
}

func (b *Backend) writePlace(p place) (changes int, err error) {
	if err := b.kernel.mark(marksOfLocals(p.locals)); err != nil {
		return 0, err
	}
	n, err := syncMap(b.kernel.maps.Locals, p.locals)
	if err != nil {
		return n, err
	}
	m, err := syncMap(b.kernel.maps.Devices, p.devices)
	changes = n + m
	if err != nil {
		return changes, err
	}
	pinned, err := b.kernel.pinned(ingress, egress)
	if err != nil {
		return changes, err
	}
	var errs []error
	for index := range p.devices {
		if b.attached[int(index)] && (pinned[int(index)] || b.kernel.clsact) {
			continue
		}
		n, err := b.kernel.attachDevice(int(index))
		if changes += n; err != nil {
			errs = append(errs, err)
			continue
		}
		b.attached[int(index)] = true
	}
	for index := range b.attached {
		if _, is := p.devices[uint32(index)]; !is {
			delete(b.attached, index)
		}
	}
	for index := range pinned {
		if _, is := p.devices[uint32(index)]; !is {
			errs = append(errs, b.kernel.forgetDevice(index))
		}
	}
	return changes, errors.Join(errs...)
}

// Run keeps the programs on the devices that come and go, until ctx ends.
func (b *Backend) Run(ctx context.Context) error {
	// While the API is listed nobody waits for this; Apply tells of an error.
	b.mu.Lock()
	_ = b.open()
	b.mu.Unlock()
	wake := make(chan struct{}, 1)
	watch := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		watch <- b.inside(func() error {
			return nl.Watch(ctx, func() {
				select {
				case wake <- struct{}{}:
				default:
				}
			})
		})
	}()
	for {
		select {
		case err := <-watch:
			return err
		case <-b.first: // nobody waits now, and later a change would
			b.mu.Lock()
			if b.kernel != nil {
				b.kernel.canEnd()
			}
			b.mu.Unlock()
		case <-wake:
			b.mu.Lock()
			if b.applied != nil && b.kernel != nil {
				_, b.devicesErr = b.syncDevices(b.applied)
			}
			b.mu.Unlock()
		}
	}
}

// inside runs f in the node's network namespace.
func (b *Backend) inside(f func() error) error {
	if b.cfg.NetNS == 0 {
		return f()
	}
	ns, err := netns.Open(fmt.Sprintf("/proc/self/fd/%d", b.cfg.NetNS))
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	return ns.Do(f)
}
