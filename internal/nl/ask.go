package nl

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Asked is a packet whose way the kernel is asked for.
type Asked struct {
	Dst netip.Addr
	// Src is not valid for what the kernel would choose.
	Src netip.Addr
	// In is the interface the packet comes in by; empty for one of this host.
	In string
}

// Ask asks the kernel which way it would send a packet. Beside the errors of a
// look-up it gives the kernel's own: ENETUNREACH for no route, EHOSTUNREACH
// for a route of kind unreachable or an interface that does not forward, EXDEV
// for a source that the reverse path filter refuses, EACCES for a route of
// kind prohibit, EINVAL for one of kind blackhole and for impossible sources.
func (c *Conn) Ask(a Asked) (Route, error) {
	o := &netlink.RouteGetOptions{SrcAddr: a.Src.AsSlice()}
	if a.In != "" {
		link, err := c.Link(a.In)
		if err != nil {
			return Route{}, err
		}
		o.IifIndex = link.Index
	}
	got, err := c.h.RouteGetWithOptions(a.Dst.AsSlice(), o)
	if err != nil {
		return Route{}, fmt.Errorf("ask for the route to %s from %s in by %q: %w", a.Dst, a.Src, a.In, err)
	}
	if len(got) == 0 {
		return Route{}, fmt.Errorf("ask for the route to %s: %w", a.Dst, ErrNotFound)
	}
	r := toRoute(got[0], family(a.Dst))
	if got[0].Type == unix.RTN_LOCAL {
		r.Kind = Local
	}
	return r, nil
}

// Local is the kind of a route to this host itself; only Ask gives it.
const Local = "local"

// Hop is a neighbour entry of any state.
type Hop struct {
	MAC net.HardwareAddr
	// State is as `ip neighbour` writes it, in lower case.
	State string
}

// Hop looks a neighbour entry up; ok is false when there is none.
func (c *Conn) Hop(link int, ip netip.Addr) (h Hop, ok bool, err error) {
	all, err := dump(func() ([]netlink.Neigh, error) { return c.h.NeighList(link, family(ip)) })
	if err != nil {
		return h, false, explain(err, "list neighbours of", fmt.Sprintf("link #%d", link))
	}
	for _, n := range all {
		if toAddr(n.IP) == ip {
			return Hop{MAC: n.HardwareAddr, State: stateName(n.State)}, true, nil
		}
	}
	return h, false, nil
}

func stateName(s int) string {
	names := map[int]string{
		unix.NUD_INCOMPLETE: "incomplete", unix.NUD_REACHABLE: "reachable", unix.NUD_STALE: "stale", unix.NUD_DELAY: "delay",
		unix.NUD_PROBE: "probe", unix.NUD_FAILED: "failed", unix.NUD_NOARP: "noarp", unix.NUD_PERMANENT: "permanent",
	}
	if name, ok := names[s]; ok {
		return name
	}
	return fmt.Sprintf("state %#x", s)
}

// Running tells whether a link is up and has a carrier: the other end of a
// veth pair that is down takes it away.
func (c *Conn) Running(name string) (bool, error) {
	l, err := c.h.LinkByName(name)
	if err != nil {
		return false, explain(err, "look up link", name)
	}
	return l.Attrs().RawFlags&(unix.IFF_UP|unix.IFF_LOWER_UP) == unix.IFF_UP|unix.IFF_LOWER_UP, nil
}

const (
	// usePatience bounds AwaitUse: the kernel takes links into use within a second, whatever happens.
	usePatience = time.Second
	usePause    = time.Millisecond
)

// AwaitUse waits until the kernel sends by a link that has just got a carrier. It does what is needed
// for that some time after the other end of a pair came up (linkwatch), and drops without a word what
// is to be sent before. Since Linux 6.8 the question itself has it done at once. A link that never
// gets there is no error: it has no carrier, and what is behind it cannot be reached anyway.
func (c *Conn) AwaitUse(index int) error {
	for end := time.Now().Add(usePatience); ; time.Sleep(usePause) {
		l, err := c.h.LinkByIndex(index)
		if err != nil {
			return explain(err, "look up link", fmt.Sprintf("#%d", index))
		}
		if l.Attrs().OperState == netlink.OperUp || time.Now().After(end) {
			return nil
		}
	}
}
