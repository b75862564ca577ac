package nl

import (
	"errors"
	"fmt"
	"math"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// redirectPriority is where in a link's ingress hook RedirectIngress has its
// filter: behind a Program, which lets packets go on.
const redirectPriority = 78

// Shaper is a token bucket (qdisc tbf) that everything a link sends passes.
type Shaper struct {
	Link int
	// Rate is bytes a second, Burst the bucket's size in bytes, Limit how many
	// bytes may wait for tokens before packets are dropped.
	Rate         uint64
	Burst, Limit uint32
	// Dropped packets; only read.
	Dropped uint32
}

// SetShaper makes the shaper the link's queue, in the place of the one it has.
func (c *Conn) SetShaper(s Shaper) error {
	err := c.h.QdiscReplace(&netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: s.Link, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       s.Rate, Limit: s.Limit,
		// The kernel counts a bucket in ticks of the time in which its bytes are sent.
		Buffer: uint32(min(float64(netlink.TIME_UNITS_PER_SEC)*float64(s.Burst)/float64(s.Rate)*netlink.TickInUsec(), math.MaxUint32)),
	})
	return explain(err, "set tbf qdisc of link", fmt.Sprintf("#%d", s.Link))
}

// Shapers lists the token buckets that are the queue of their link, without their sizes.
func (c *Conn) Shapers() ([]Shaper, error) {
	all, err := dump(func() ([]netlink.Qdisc, error) { return c.h.QdiscList(nil) })
	if err != nil {
		return nil, explain(err, "list", "qdiscs")
	}
	var out []Shaper
	for _, q := range all {
		t, ok := q.(*netlink.Tbf)
		if !ok || t.Parent != netlink.HANDLE_ROOT {
			continue
		}
		s := Shaper{Link: t.LinkIndex, Rate: t.Rate}
		if t.Statistics != nil && t.Statistics.Queue != nil {
			s.Dropped = t.Statistics.Queue.Drops
		}
		out = append(out, s)
	}
	return out, nil
}

// AddIfb creates a link that gives back what is sent to it where it came from,
// so that packets which a link receives can be shaped, and sets it up.
func (c *Conn) AddIfb(name string, mtu int, group uint32) error {
	a := netlink.NewLinkAttrs()
	a.Name, a.MTU, a.Group = name, mtu, group
	a.Flags = net.FlagUp
	err := c.h.LinkAdd(&netlink.Ifb{LinkAttrs: a})
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return explain(err, "add ifb link", name)
}

// RedirectIngress sends all that one link receives through another, an ifb.
func (c *Conn) RedirectIngress(link, to int) error {
	had, now, err := c.redirection(link)
	if err != nil || had && now == to {
		return err
	}
	if err := c.addClsact(link); err != nil {
		return err
	}
	filter := &netlink.U32{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: link, Parent: netlink.HANDLE_MIN_INGRESS, Priority: redirectPriority, Protocol: unix.ETH_P_ALL},
		Actions:     []netlink.Action{netlink.NewMirredAction(to)},
	}
	if had {
		if err := c.h.FilterDel(filter); err != nil {
			return explain(err, "delete redirection of link", fmt.Sprintf("#%d", link))
		}
	}
	return explain(c.h.FilterAdd(filter), "redirect packets of link", fmt.Sprintf("#%d to #%d", link, to))
}

// IngressRedirect gives the link that RedirectIngress has set; 0 for none, or one that is gone.
func (c *Conn) IngressRedirect(link int) (to int, err error) {
	_, to, err = c.redirection(link)
	return to, err
}

// redirection finds what RedirectIngress has made: whether it is there, and where it leads.
func (c *Conn) redirection(link int) (found bool, to int, err error) {
	all, err := dump(func() ([]netlink.Filter, error) { return c.h.FilterList(byIndex(link), netlink.HANDLE_MIN_INGRESS) })
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) { // no clsact
		return false, 0, nil
	}
	if err != nil {
		return false, 0, explain(err, "list filters of link", fmt.Sprintf("#%d", link))
	}
	for _, f := range all {
		u, ok := f.(*netlink.U32)
		if !ok || u.Priority != redirectPriority {
			continue
		}
		found = true
		for _, a := range u.Actions {
			if m, ok := a.(*netlink.MirredAction); ok && m.MirredAction == netlink.TCA_EGRESS_REDIR {
				to = m.Ifindex
			}
		}
	}
	return found, to, nil
}
