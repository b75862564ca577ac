package nl

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Neigh is a permanent neighbour entry: an address that needs no ARP or NDP.
type Neigh struct {
	Link int
	IP   netip.Addr
	MAC  net.HardwareAddr
}

// String is "ip at mac on link #index".
func (n Neigh) String() string { return fmt.Sprintf("%s at %s on link #%d", n.IP, n.MAC, n.Link) }

// SetNeigh adds or changes a permanent entry.
func (c *Conn) SetNeigh(n Neigh) error {
	err := c.h.NeighSet(&netlink.Neigh{
		LinkIndex: n.Link, Family: family(n.IP), State: unix.NUD_PERMANENT, IP: n.IP.AsSlice(), HardwareAddr: n.MAC,
	})
	return explain(err, "set neighbour", n.String())
}

// DeleteNeigh removes an entry.
func (c *Conn) DeleteNeigh(n Neigh) error {
	err := c.h.NeighDel(&netlink.Neigh{LinkIndex: n.Link, Family: family(n.IP), IP: n.IP.AsSlice()})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return explain(err, "delete neighbour", n.String())
}

// Neighs lists the permanent entries of a link.
func (c *Conn) Neighs(link int) ([]Neigh, error) {
	all, err := dump(func() ([]netlink.Neigh, error) { return c.h.NeighList(link, unix.AF_UNSPEC) })
	if err != nil {
		return nil, explain(err, "list neighbours of", fmt.Sprintf("link #%d", link))
	}
	var out []Neigh
	for _, n := range all {
		if n.State&unix.NUD_PERMANENT != 0 {
			out = append(out, Neigh{Link: n.LinkIndex, IP: toAddr(n.IP), MAC: n.HardwareAddr})
		}
	}
	return out, nil
}
