package lb

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"

	"nodelet/internal/model"
	"nodelet/internal/store"
)

// Config gives what the State was compiled with, and what the node's object
// says: another one when that has changed.
func (s *State) Config() *Config { return s.cfg }

// Lookup gives who answers a frontend.
func (s *State) Lookup(f Frontend) (Target, bool) {
	claims, ok := s.frontends.get(f)
	if !ok {
		return Target{}, false
	}
	return claims[0], true
}

// Len is the number of frontends.
func (s *State) Len() int { return s.frontends.len() }

// All yields every frontend with who answers it, in no particular order.
func (s *State) All() iter.Seq2[Frontend, Target] {
	return func(yield func(Frontend, Target) bool) {
		for f, claims := range s.frontends.all() {
			if !yield(f, claims[0]) {
				return
			}
		}
	}
}

// Loops yields the addresses of endpoints that may be on this node, in no particular order.
func (s *State) Loops() iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		for a := range s.loops.all() {
			if !yield(a) {
				return
			}
		}
	}
}

// LocalAddr tells whether the API says that the address is this node's.
func (s *State) LocalAddr(a netip.Addr) bool { return slices.Contains(s.here.addrs, a) }

// Unassigned tells whether an address is inside the ranges of ClusterIPs and no
// Service's.
func (s *State) Unassigned(a netip.Addr) bool {
	if !slices.ContainsFunc(s.cfg.ServiceCIDRs, func(p netip.Prefix) bool { return p.Contains(a) }) {
		return false
	}
	_, taken := s.Lookup(Frontend{Addr: a})
	return !taken
}

// Skipped says why a Service is not balanced here; empty when it is, or is not there.
func (s *State) Skipped(k model.Key) string {
	if m, ok := s.snapshot.Services.Get(k); ok {
		return s.here.skipped(m)
	}
	return ""
}

// IsPod tells whether an address is that of a pod, of any node.
func (s *State) IsPod(a netip.Addr) bool {
	return slices.ContainsFunc(s.cfg.PodCIDRs, func(p netip.Prefix) bool { return p.Contains(a) })
}

// Change is a frontend that is answered otherwise than before.
type Change struct {
	Frontend
	// Old and New hold a nil Port where there is none.
	Old, New Target
}

// Changes yields the frontends that differ between two States of the same
// Config, in no particular order, at the price of the changes. A nil prev
// yields everything.
func Changes(prev, next *State) iter.Seq[Change] {
	return func(yield func(Change) bool) {
		if prev == nil {
			prev = Empty(next.cfg)
		}
		for f := range next.frontends.touched(&prev.frontends) {
			c := Change{Frontend: f}
			c.Old, _ = prev.Lookup(f)
			c.New, _ = next.Lookup(f)
			if c.Old != c.New && !yield(c) {
				return
			}
		}
	}
}

// LoopChanges yields the addresses that became or ceased to be loops.
func LoopChanges(prev, next *State) iter.Seq2[netip.Addr, bool] {
	return func(yield func(netip.Addr, bool) bool) {
		if prev == nil {
			prev = Empty(next.cfg)
		}
		for a := range next.loops.touched(&prev.loops) {
			_, was := prev.loops.get(a)
			_, is := next.loops.get(a)
			if was != is && !yield(a, is) {
				return
			}
		}
	}
}

// String is the whole State, in order: each Port with its endpoints, then the
// frontends that more than one Service claims.
func (s *State) String() string {
	var ports []*Port
	for _, svc := range s.services.all() {
		ports = append(ports, svc.ports...)
	}
	slices.SortFunc(ports, func(a, b *Port) int {
		if c := a.Service.Compare(b.Service); c != 0 {
			return c
		}
		return Frontend{a.ClusterIP.Addr(), a.Proto, a.ClusterIP.Port()}.Compare(Frontend{b.ClusterIP.Addr(), b.Proto, b.ClusterIP.Port()})
	})
	var b strings.Builder
	for _, p := range ports {
		b.WriteString(p.String())
	}
	var lines []string
	for k, c := range s.checks.all() {
		lines = append(lines, fmt.Sprintf("health check %s port %d: %d ready here\n", k, c.Port, c.Local))
	}
	slices.Sort(lines)
	b.WriteString(strings.Join(lines, ""))
	var disputes []string
	for f, claims := range s.frontends.all() {
		if claims[0].Kind.WholeAddress() {
			continue
		}
		for _, t := range claims[1:] {
			disputes = append(disputes, fmt.Sprintf("dispute %s: %s wins over %s\n", f, claims[0].Service, t.Service))
		}
	}
	slices.Sort(disputes)
	b.WriteString(strings.Join(disputes, ""))
	return b.String()
}

// Source is the snapshot that the State was compiled from.
func (s *State) Source() *store.Snapshot { return s.snapshot }
