package conntrack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	vnetns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// attempts bounds how often a listing is begun again because the table changed under it.
const attempts = 4

// Flow is one tracked connection.
type Flow struct {
	Proto uint8
	// Src and Dst are what the first packet had.
	Src, Dst netip.AddrPort
	// AnswersFrom and AnswersTo are what answers have when they come in: for a
	// flow that is not translated, Dst and Src.
	AnswersFrom, AnswersTo netip.AddrPort
	Mark                   uint32
}

// String is one line.
func (f Flow) String() string {
	s := fmt.Sprintf("protocol %d %s -> %s", f.Proto, f.Src, f.Dst)
	if f.AnswersFrom != f.Dst {
		s += fmt.Sprintf(" translated to %s", f.AnswersFrom)
	}
	if f.AnswersTo != f.Src {
		s += fmt.Sprintf(" masqueraded as %s", f.AnswersTo)
	}
	return s
}

// Conn is a connection to the table of one network namespace.
type Conn struct{ h *netlink.Handle }

// Open connects. netns is a file descriptor of the namespace; 0 or less is the caller's own.
func Open(netnsFD int) (*Conn, error) {
	ns := vnetns.None()
	if netnsFD > 0 {
		ns = vnetns.NsHandle(netnsFD)
	}
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket to conntrack: %w", err)
	}
	return &Conn{h: h}, nil
}

// Close ends the connection.
func (c *Conn) Close() { c.h.Close() }

func familyOf(ipv6 bool) netlink.InetFamily {
	if ipv6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// List gives all flows of a family.
func (c *Conn) List(ctx context.Context, ipv6 bool) ([]Flow, error) {
	var out []Flow
	_, err := c.visit(ctx, ipv6, func(f Flow) bool {
		out = append(out, f)
		return false
	}, func() { out = nil })
	if err != nil {
		return nil, fmt.Errorf("list tracked connections: %w", err)
	}
	return out, nil
}

// Delete removes the flows that wrong picks, and gives their number. When the
// listing was cut short it is repeated, so that none is missed.
func (c *Conn) Delete(ctx context.Context, ipv6 bool, wrong func(Flow) bool) (int, error) {
	n, err := c.visit(ctx, ipv6, wrong, func() {})
	if err != nil {
		return n, fmt.Errorf("delete tracked connections (%d deleted): %w", n, err)
	}
	return n, nil
}

func (c *Conn) visit(ctx context.Context, ipv6 bool, wrong func(Flow) bool, restart func()) (deleted int, err error) {
	for range attempts {
		if err := ctx.Err(); err != nil {
			return deleted, err
		}
		restart()
		var n uint
		n, err = c.h.ConntrackDeleteFilters(netlink.ConntrackTable, familyOf(ipv6), filter(wrong))
		deleted += int(n)
		if err == nil || !errors.Is(err, netlink.ErrDumpInterrupted) && !errors.Is(err, unix.ENOBUFS) {
			return deleted, err
		}
	}
	return deleted, fmt.Errorf("%w (tried %d times)", err, attempts)
}

// filter adapts a function to the library.
type filter func(Flow) bool

// MatchConntrackFlow is the library's question.
func (f filter) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	return f(Flow{
		Proto: flow.Forward.Protocol, Mark: flow.Mark,
		Src: addrPort(flow.Forward.SrcIP, flow.Forward.SrcPort), Dst: addrPort(flow.Forward.DstIP, flow.Forward.DstPort),
		AnswersFrom: addrPort(flow.Reverse.SrcIP, flow.Reverse.SrcPort),
		AnswersTo:   addrPort(flow.Reverse.DstIP, flow.Reverse.DstPort),
	})
}

func addrPort(ip net.IP, port uint16) netip.AddrPort {
	a, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(a.Unmap(), port)
}
