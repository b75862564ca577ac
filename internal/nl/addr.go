package nl

import (
	"errors"
	"fmt"
	"math"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Addr is an address on a link.
type Addr struct {
	// Prefix keeps the host bits: 10.0.0.5/24.
	Prefix netip.Prefix
	Link   int
	// Global is false for link-local and host scope. Only read.
	Global bool
	// NotSource keeps the kernel from choosing the address as the source of
	// packets to elsewhere, which it does for links without an address of their
	// own: host scope for IPv4, deprecated for IPv6. Only written.
	NotSource bool
}

// String is "prefix link#index".
func (a Addr) String() string { return fmt.Sprintf("%s on link #%d", a.Prefix, a.Link) }

// Addrs lists the addresses of one link, or of all when link is 0.
func (c *Conn) Addrs(link int) ([]Addr, error) {
	var dev netlink.Link
	if link != 0 {
		dev = byIndex(link)
	}
	all, err := dump(func() ([]netlink.Addr, error) { return c.h.AddrList(dev, unix.AF_UNSPEC) })
	if err != nil {
		return nil, explain(err, "list", "addresses")
	}
	addrs := make([]Addr, 0, len(all))
	for _, a := range all {
		addrs = append(addrs, Addr{Prefix: toPrefix(a.IPNet), Link: a.LinkIndex, Global: a.Scope == unix.RT_SCOPE_UNIVERSE})
	}
	return addrs, nil
}

// AddAddr adds an address. IPv6 addresses are usable at once, without
// duplicate address detection: nodelet gives out each address itself.
func (c *Conn) AddAddr(a Addr) error {
	na := &netlink.Addr{IPNet: ipNet(a.Prefix)}
	if a.Prefix.Addr().Is6() {
		na.Flags = unix.IFA_F_NODAD
	}
	if a.NotSource {
		na.Scope = unix.RT_SCOPE_HOST
		na.ValidLft, na.PreferedLft = math.MaxUint32, 0 // for ever, but deprecated
	}
	err := c.h.AddrAdd(byIndex(a.Link), na)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return explain(err, "add address", a.String())
}

// DeleteAddr removes an address.
func (c *Conn) DeleteAddr(a Addr) error {
	err := c.h.AddrDel(byIndex(a.Link), &netlink.Addr{IPNet: ipNet(a.Prefix)})
	if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return explain(err, "delete address", a.String())
}
