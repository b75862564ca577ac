package routes

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"nodelet/internal/model"
)

// Route is a pod CIDR and the way to it; Via is not valid for the node's own.
type Route struct {
	Dst netip.Prefix
	Via netip.Addr
}

// String is the route as `ip route` would show it.
func (r Route) String() string {
	if !r.Via.IsValid() {
		return "unreachable " + r.Dst.String()
	}
	return r.Dst.String() + " via " + r.Via.String()
}

// Problem is a node whose pods cannot be reached, and why.
type Problem struct {
	Node string
	Text string
}

// String is "node: text".
func (p Problem) String() string { return p.Node + ": " + p.Text }

// Plan is all routes a node should have, and what stands in the way of others.
type Plan struct {
	Routes   []Route
	Problems []Problem
}

// String is one line per route and problem.
func (p Plan) String() string {
	var b strings.Builder
	for _, r := range p.Routes {
		fmt.Fprintln(&b, r)
	}
	for _, q := range p.Problems {
		fmt.Fprintln(&b, "problem", q)
	}
	return b.String()
}

// Make plans the routes of the node self. connected are the networks the host
// has an address in.
func Make(self string, nodes []*model.Node, connected []netip.Prefix) Plan {
	var p Plan
	var taken prefixes
	// The node itself comes first: nobody else's claim may cut it off.
	nodes = slices.SortedFunc(slices.Values(nodes), func(a, b *model.Node) int {
		if (a.Name == self) != (b.Name == self) {
			return map[bool]int{true: -1, false: 1}[a.Name == self]
		}
		return cmp.Compare(a.Name, b.Name)
	})
	for _, n := range nodes {
		for _, dst := range n.PodCIDRs {
			dst = dst.Masked()
			if problem := taken.overlap(dst, connected); problem != "" {
				p.Problems = append(p.Problems, Problem{n.Name, problem})
				continue
			}
			if n.Name == self {
				taken.add(dst)
				p.Routes = append(p.Routes, Route{Dst: dst})
				continue
			}
			via, problem := nextHop(n, dst, connected)
			if problem != "" {
				p.Problems = append(p.Problems, Problem{n.Name, problem})
				continue
			}
			taken.add(dst)
			p.Routes = append(p.Routes, Route{Dst: dst, Via: via})
		}
	}
	return p
}

// prefixes do not overlap and are in the order of their addresses, so one that overlaps any of them
// overlaps a neighbour of its place: a cluster of thousands of nodes is planned without comparing all pairs.
type prefixes []netip.Prefix

func (p prefixes) place(dst netip.Prefix) int {
	i, _ := slices.BinarySearchFunc(p, dst.Addr(), func(q netip.Prefix, a netip.Addr) int { return q.Addr().Compare(a) })
	return i
}

func (p *prefixes) add(dst netip.Prefix) { *p = slices.Insert(*p, p.place(dst), dst) }

func (p prefixes) overlap(dst netip.Prefix, connected []netip.Prefix) string {
	for _, c := range connected {
		if dst.Overlaps(c) {
			return fmt.Sprintf("pod CIDR %s overlaps network %s of this host: choose another range for pods", dst, c)
		}
	}
	i := p.place(dst)
	for _, q := range p[max(i-1, 0):min(i+1, len(p))] {
		if dst.Overlaps(q) {
			return fmt.Sprintf("pod CIDR %s overlaps %s of another node", dst, q)
		}
	}
	return ""
}

func nextHop(n *model.Node, dst netip.Prefix, connected []netip.Prefix) (via netip.Addr, problem string) {
	for _, ip := range n.InternalIPs {
		if ip.Is4() != dst.Addr().Is4() {
			continue
		}
		if slices.ContainsFunc(connected, func(c netip.Prefix) bool { return c.Contains(ip) }) {
			return ip, ""
		}
		problem = fmt.Sprintf("pods in %s cannot be reached: %s is on no network this host is directly connected to %v, "+
			"and there is no overlay yet: put nodes on one network, or route pod CIDRs on the router between them", dst, ip, connected)
	}
	if problem == "" {
		problem = fmt.Sprintf("pods in %s cannot be reached: the node has no InternalIP of that family", dst)
	}
	return netip.Addr{}, problem
}
