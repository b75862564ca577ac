package eval

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"nodelet/internal/model"
	"nodelet/proxy/lb"
)

// Packet is the first packet of a connection, as this node sees it.
type Packet struct {
	Src   netip.Addr
	Dst   netip.AddrPort
	Proto model.Protocol
	// From says where it comes from: a pod, this node itself, or elsewhere.
	From lb.Source
	// ToNode: the destination is an address of this node.
	ToNode bool
}

// String is one line.
func (p Packet) String() string {
	to := ""
	if p.ToNode {
		to = " (this node)"
	}
	return fmt.Sprintf("%s %s -> %s/%s%s", p.From, p.Src, p.Dst, p.Proto, to)
}

// Outcome is what happens to a packet.
type Outcome uint8

// The outcomes.
const (
	// NoService: no Service has anything to say; the packet goes its way.
	NoService Outcome = iota
	// DNAT: it goes to one of the endpoints.
	DNAT
	Reject
	Drop
)

// String is the outcome in words.
func (o Outcome) String() string { return [...]string{"no service", "dnat", "reject", "drop"}[o] }

// Verdict is the whole answer.
type Verdict struct {
	Outcome Outcome
	// Target is whose packet it is; its Port is nil for NoService.
	Target lb.Target
	// Endpoints it may go to, each with the same chance.
	Endpoints []netip.AddrPort
	// Masquerade tells for each of the endpoints whether the source address is rewritten.
	Masquerade []bool
	// Sticky: a client that was here before keeps its endpoint.
	Sticky bool
	// Why says in words what decided.
	Why string
}

// String is one line, with the endpoints that are masqueraded marked by *.
func (v Verdict) String() string {
	var b strings.Builder
	b.WriteString(v.Outcome.String())
	for i, e := range v.Endpoints {
		b.WriteString(" " + e.String())
		if v.Masquerade[i] {
			b.WriteByte('*')
		}
	}
	if v.Sticky {
		b.WriteString(" sticky")
	}
	if v.Why != "" {
		b.WriteString(" (" + v.Why + ")")
	}
	return b.String()
}

// Eval gives what happens to p under s.
func Eval(s *lb.State, p Packet) Verdict {
	t, ok := find(s, p)
	if !ok {
		return Verdict{}
	}
	v := Verdict{Target: t}
	if !t.Admits(p.Src) {
		v.Outcome, v.Why = Drop, "source outside loadBalancerSourceRanges"
		return v
	}
	r := t.Route(s.Config(), p.From)
	switch r.Action {
	case lb.Reject:
		v.Outcome, v.Why = Reject, "no usable endpoint"
		if t.Kind == lb.AnyPort {
			v.Why = "the ClusterIP has no such port"
		}
		return v
	case lb.Drop:
		v.Outcome, v.Why = Drop, "policy Local and no endpoint on this node"
		return v
	}
	v.Outcome, v.Sticky = DNAT, t.Affinity > 0
	for _, e := range r.Endpoints {
		v.Endpoints = append(v.Endpoints, e.AddrPort)
		hairpin := e.Here && e.Addr() == p.Src
		// What ends on this node never leaves it, so its source stays.
		arrived := p.From != lb.FromNode && s.LocalAddr(e.Addr())
		v.Masquerade = append(v.Masquerade, (r.Masquerade || hairpin) && !arrived)
	}
	return v
}

// find gives whose the packet is: the exact address and port come first, then
// the node port, then the rest of a ClusterIP.
func find(s *lb.State, p Packet) (lb.Target, bool) {
	f := lb.Frontend{Addr: p.Dst.Addr(), Proto: p.Proto, Port: p.Dst.Port()}
	if t, ok := s.Lookup(f); ok {
		return t, true
	}
	if p.ToNode && nodePortAddr(s, p.Dst.Addr()) {
		f.Addr = netip.IPv4Unspecified()
		if p.Dst.Addr().Is6() {
			f.Addr = netip.IPv6Unspecified()
		}
		if t, ok := s.Lookup(f); ok {
			return t, true
		}
	}
	return s.Lookup(lb.Frontend{Addr: p.Dst.Addr()})
}

func nodePortAddr(s *lb.State, a netip.Addr) bool {
	allowed := s.Config().NodePortAddresses
	return !a.IsLoopback() && (len(allowed) == 0 || slices.ContainsFunc(allowed, func(p netip.Prefix) bool { return p.Contains(a) }))
}
