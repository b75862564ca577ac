package eval

import (
	"fmt"
	"net/netip"
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
	// Target is whose packet it is; its Port is nil for NoService and for an
	// address of the ranges of ClusterIPs that no Service has (lb.Unassigned).
	Target lb.Target
	// Endpoints it may go to, each with the same chance.
	Endpoints []netip.AddrPort
	// Masquerade tells for each of the endpoints whether the source address is rewritten.
	Masquerade []bool
	// Local: the endpoints are those of policy Local.
	Local bool
	// Sticky: a client that was sent on before, for any frontend of the Target's
	// Port and by the same policy, keeps its endpoint.
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

// Chance is the probability with which a packet goes to each of the endpoints; 0 when there are none.
func (v Verdict) Chance() float64 {
	if len(v.Endpoints) == 0 {
		return 0
	}
	return 1 / float64(len(v.Endpoints))
}
