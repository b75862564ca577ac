package nodeplan

import (
	"errors"
	"net/netip"
)

// Link is a network interface of the machine.
type Link struct {
	Index    int
	Name     string
	Up       bool
	Loopback bool
	// Addrs in the order of the kernel.
	Addrs []netip.Addr
}

// DefaultRoute is a route to everywhere.
type DefaultRoute struct {
	// Link is the index of the interface it leaves by.
	Link   int
	Metric int
}

// DefaultIP chooses the address of a node that was not given one: the first global address of the
// interface that the best default route leaves by, else the first global address of any interface
// that is up. IPv4 comes before IPv6.
func DefaultIP(links []Link, routes []DefaultRoute) (netip.Addr, error) {
	best := -1
	for i, r := range routes {
		if best < 0 || r.Metric < routes[best].Metric {
			if global(links, r.Link).IsValid() {
				best = i
			}
		}
	}
	if best >= 0 {
		return global(links, routes[best].Link), nil
	}
	var v6 netip.Addr
	for _, l := range links {
		ip := global(links, l.Index)
		if ip.Is4() {
			return ip, nil
		}
		if !v6.IsValid() {
			v6 = ip
		}
	}
	if v6.IsValid() {
		return v6, nil
	}
	return netip.Addr{}, errors.New("choose the address of this node: no interface that is up has a global address: give one with --node-ip")
}

// global gives the first usable address of a link, IPv4 before IPv6; the zero Addr when it has none.
func global(links []Link, index int) netip.Addr {
	var v6 netip.Addr
	for _, l := range links {
		if l.Index != index || !l.Up || l.Loopback {
			continue
		}
		for _, ip := range l.Addrs {
			ip = ip.Unmap()
			if !ip.IsGlobalUnicast() { // loopback, link-local, multicast, unspecified
				continue
			}
			if ip.Is4() {
				return ip
			}
			if !v6.IsValid() {
				v6 = ip
			}
		}
	}
	return v6
}
