package nl

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Proto marks the routes nodelet makes: `proto 77` in `ip route`. Numbers up
// to 4 belong to the kernel, and iproute2's rt_protos names none near 77.
const Proto = 77

// Kinds of routes. Unicast is the zero value.
const (
	Unicast     = ""
	Unreachable = "unreachable"
	Blackhole   = "blackhole"
)

// Route is one route of one table.
type Route struct {
	// Kind is Unicast, Unreachable or Blackhole.
	Kind string
	// Dst is 0.0.0.0/0 or ::/0 for a default route.
	Dst netip.Prefix
	// Via is the next hop; not valid for a route straight onto a link.
	Via netip.Addr
	// Link is the index of the outgoing link; 0 lets the kernel derive it from Via.
	Link int
	// Src is the source address preferred for packets of this host.
	Src netip.Addr
	// Onlink: Via is taken as directly connected though no address says so.
	Onlink bool
	// Proto says who made the route; 0 becomes the package's Proto.
	Proto int
	// Table is 0 for the main table.
	Table  int
	Metric int
	MTU    int
}

// String is the route as `ip route` would show it.
func (r Route) String() string {
	var b strings.Builder
	if r.Kind != Unicast {
		b.WriteString(r.Kind + " ")
	}
	b.WriteString(r.Dst.String())
	if r.Via.IsValid() {
		fmt.Fprintf(&b, " via %s", r.Via)
	}
	if r.Link != 0 {
		fmt.Fprintf(&b, " dev #%d", r.Link)
	}
	if r.Src.IsValid() {
		fmt.Fprintf(&b, " src %s", r.Src)
	}
	if r.Metric != 0 {
		fmt.Fprintf(&b, " metric %d", r.Metric)
	}
	if r.Onlink {
		b.WriteString(" onlink")
	}
	return b.String()
}

var kindToType = map[string]int{
	Unicast: unix.RTN_UNICAST, Unreachable: unix.RTN_UNREACHABLE, Blackhole: unix.RTN_BLACKHOLE,
}

func (r Route) netlink() *netlink.Route {
	nr := &netlink.Route{
		Type: kindToType[r.Kind], Dst: ipNet(r.Dst), LinkIndex: r.Link, Src: r.Src.AsSlice(),
		Gw: r.Via.AsSlice(), Protocol: netlink.RouteProtocol(r.Proto), Table: r.Table,
		Priority: r.Metric, MTU: r.MTU, Family: family(r.Dst.Addr()),
	}
	if r.Proto == 0 {
		nr.Protocol = Proto
	}
	if r.Onlink {
		nr.Flags = unix.RTNH_F_ONLINK
	}
	if r.Kind == Unicast && !r.Via.IsValid() {
		nr.Scope = netlink.SCOPE_LINK
	}
	return nr
}

// ReplaceRoute adds the route, or changes the one with the same destination,
// metric and table into it.
func (c *Conn) ReplaceRoute(r Route) error {
	return explain(c.h.RouteReplace(r.netlink()), "set route", r.String())
}

// AddRoute adds a route; one with the same destination and metric gives ErrExists.
func (c *Conn) AddRoute(r Route) error {
	return explain(c.h.RouteAdd(r.netlink()), "add route", r.String())
}

// DeleteRoute removes a route.
func (c *Conn) DeleteRoute(r Route) error {
	nr := r.netlink()
	nr.Scope = netlink.Scope(unix.RT_SCOPE_NOWHERE) // any
	err := c.h.RouteDel(nr)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return explain(err, "delete route", r.String())
}

// Routes lists the routes of the main table that protocol proto made; 0 lists all.
func (c *Conn) Routes(proto int) ([]Route, error) {
	filter, mask := &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE
	if proto != 0 {
		filter.Protocol = netlink.RouteProtocol(proto)
		mask |= netlink.RT_FILTER_PROTOCOL
	}
	var routes []Route
	for _, fam := range []int{unix.AF_INET, unix.AF_INET6} {
		all, err := dump(func() ([]netlink.Route, error) { return c.h.RouteListFiltered(fam, filter, mask) })
		if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
			continue // a kernel booted with ipv6.disable=1
		}
		if err != nil {
			return nil, explain(err, "list", "routes")
		}
		for _, r := range all {
			routes = append(routes, toRoute(r, fam))
		}
	}
	return routes, nil
}

// RouteTo asks the kernel which way it would send a packet.
func (c *Conn) RouteTo(dst netip.Addr) (Route, error) {
	got, err := c.h.RouteGet(dst.AsSlice())
	if err != nil {
		return Route{}, explain(err, "look up route to", dst.String())
	}
	if len(got) == 0 {
		return Route{}, fmt.Errorf("look up route to %s: %w", dst, ErrNotFound)
	}
	return toRoute(got[0], family(dst)), nil
}

func toRoute(r netlink.Route, fam int) Route {
	out := Route{
		Dst: toPrefix(r.Dst), Via: toAddr(r.Gw), Link: r.LinkIndex, Src: toAddr(r.Src),
		Onlink: r.Flags&unix.RTNH_F_ONLINK != 0, Proto: int(r.Protocol), Table: r.Table, Metric: r.Priority, MTU: r.MTU,
	}
	if !out.Dst.IsValid() {
		out.Dst = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if fam == unix.AF_INET6 {
			out.Dst = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
	}
	for kind, typ := range kindToType {
		if r.Type == typ {
			out.Kind = kind
		}
	}
	return out
}
