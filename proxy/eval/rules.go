package eval

import (
	"fmt"
	"net/netip"

	"nodelet/proxy/lb"
)

// The rules of the meaning, in the order in which they are asked. Each that
// decides something leaves one sentence, so that Trace reads like the answer
// of somebody who knows.

// Eval gives what happens to p under s.
func Eval(s *lb.State, p Packet) Verdict { return evaluate(s, p, nil) }

// Trace is Eval together with the rules that decided, as sentences, in order.
func Trace(s *lb.State, p Packet) (Verdict, []string) {
	var said []string
	v := evaluate(s, p, &said)
	return v, said
}

// notes collects the sentences; nil collects none.
type notes = *[]string

func say(n notes, format string, args ...any) {
	if n != nil {
		*n = append(*n, fmt.Sprintf(format, args...))
	}
}

func evaluate(s *lb.State, p Packet, n notes) Verdict {
	t, ok := whose(s, p, n)
	if !ok {
		return Verdict{}
	}
	if t.Kind == lb.Unassigned {
		return Verdict{Outcome: Drop, Target: t, Why: "no Service has this cluster IP"}
	}
	v := Verdict{Target: t}
	if !admitted(t, p, n) {
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
		say(n, "rejected: %s", v.Why)
		return v
	case lb.Drop:
		v.Outcome, v.Why = Drop, "policy Local and no endpoint on this node"
		say(n, "dropped: %s", v.Why)
		return v
	}
	sayPolicy(t, r, p, n)
	v.Outcome, v.Local, v.Sticky = DNAT, r.Local, t.Affinity > 0
	if v.Sticky {
		say(n, "session affinity: a client keeps its endpoint of this port, by whichever address it calls, until %s after its last connection", t.Affinity)
	}
	sayMasquerade(s.Config(), t, r, n)
	for _, e := range r.Endpoints {
		v.Endpoints = append(v.Endpoints, e.AddrPort)
		v.Masquerade = append(v.Masquerade, masqueraded(s, p, masquerade{r.Masquerade, e}, n))
	}
	return v
}

// whose gives whose the packet is: the exact address and port come first, then
// the node port, then the rest of a ClusterIP, then the ranges of ClusterIPs. Without a
// Service it is only the kind.
func whose(s *lb.State, p Packet, n notes) (lb.Target, bool) {
	exact := lb.Frontend{Addr: p.Dst.Addr(), Proto: p.Proto, Port: p.Dst.Port()}
	if t, ok := s.Lookup(exact); ok {
		say(n, "%s is the %s of %s port %q", exact, t.Kind, t.Service, t.Name)
		return t, true
	}
	nodePort := lb.Frontend{Addr: unspecified(p.Dst.Addr()), Proto: p.Proto, Port: p.Dst.Port()}
	if t, ok := s.Lookup(nodePort); ok && answersNodePorts(s, p, n) {
		say(n, "port %d is the node port of %s port %q", p.Dst.Port(), t.Service, t.Name)
		return t, true
	}
	rest := lb.Frontend{Addr: p.Dst.Addr()}
	if t, ok := s.Lookup(rest); ok && t.Kind == lb.Elsewhere {
		say(n, "%s is the ClusterIP of %s, which is not balanced here: %s", p.Dst.Addr(), t.Service, s.Skipped(t.Service))
		return lb.Target{}, false
	} else if ok {
		say(n, "%s is the ClusterIP of %s, which has no port %d/%s", p.Dst.Addr(), t.Service, p.Dst.Port(), p.Proto)
		return t, true
	}
	if s.Unassigned(p.Dst.Addr()) && !p.ToNode {
		say(n, "dropped: %s is inside the ranges of cluster IPs %v, and no Service has it", p.Dst.Addr(), s.Config().ServiceRanges(p.Dst.Addr().Is6()))
		return lb.Target{Kind: lb.Unassigned}, true
	}
	say(n, "%s is the frontend of no Service: the packet goes its way", exact)
	return lb.Target{}, false
}

func unspecified(like netip.Addr) netip.Addr {
	if like.Is6() {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// answersNodePorts: on this node's addresses inside nodePortAddresses, and not on loopback unless asked for.
func answersNodePorts(s *lb.State, p Packet, n notes) bool {
	a, cfg := p.Dst.Addr(), s.Config()
	switch {
	case !p.ToNode:
		say(n, "%s is not an address of this node, so its node ports are not asked", a)
	case a.IsLoopback() && !cfg.LoopbackNodePorts(a.Is6()):
		say(n, "node ports do not answer on loopback addresses")
	case !cfg.NodePortsOn(a):
		say(n, "%s is outside nodePortAddresses %v", a, cfg.NodePortRanges(a.Is6()))
	default:
		return true
	}
	return false
}

// admitted: loadBalancerSourceRanges limit load balancer IPs and nothing else.
func admitted(t lb.Target, p Packet, n notes) bool {
	if t.Kind != lb.LoadBalancerIP || len(t.Sources) == 0 {
		return true
	}
	ok := t.Admits(p.Src)
	if ok {
		say(n, "the source %s is inside loadBalancerSourceRanges %v", p.Src, t.Sources)
	} else {
		say(n, "dropped: the source %s is outside loadBalancerSourceRanges %v", p.Src, t.Sources)
	}
	return ok
}

func sayPolicy(t lb.Target, r lb.Route, p Packet, n notes) {
	name := "internalTrafficPolicy"
	if t.Kind != lb.ClusterIP {
		name = "externalTrafficPolicy"
	}
	switch {
	case r.Local:
		say(n, "%s Local: only endpoints on this node", name)
	case t.Kind != lb.ClusterIP && t.ExternalLocal:
		say(n, "%s Local does not count for traffic from this node or its pods (source: %s): any endpoint", name, p.From)
	default:
		say(n, "%s Cluster: any endpoint", name)
	}
}

func sayMasquerade(cfg *lb.Config, t lb.Target, r lb.Route, n notes) {
	switch {
	case r.Masquerade && t.Kind == lb.ClusterIP && cfg.MasqueradeAll:
		say(n, "masqueraded: all traffic to ClusterIPs is")
	case r.Masquerade && t.Kind == lb.ClusterIP:
		say(n, "masqueraded: the source is not %s", localPod(cfg))
	case r.Masquerade:
		say(n, "masqueraded: answers must come back through this node")
	default:
		say(n, "not masqueraded: the endpoint sees the client's address")
	}
}

// localPod is what local traffic comes from.
func localPod(cfg *lb.Config) string {
	if cfg.Local.Mode == lb.ByClusterCIDR {
		return "a pod"
	}
	return "a local pod (detectLocalMode " + cfg.Local.Mode.String() + ")"
}

// masquerade is the question for one endpoint.
type masquerade struct {
	route bool
	to    lb.Endpoint
}

// masqueraded: as the route says, and a pod that reaches itself in any case;
// but what ends on this node never leaves it, so its source stays.
func masqueraded(s *lb.State, p Packet, m masquerade, n notes) bool {
	hairpin := m.to.Here && m.to.Addr() == p.Src
	arrived := p.From != lb.FromNode && s.LocalAddr(m.to.Addr())
	switch {
	case arrived && (m.route || hairpin):
		say(n, "%s is this node itself: the source stays", m.to.AddrPort)
		return false
	case hairpin && !m.route:
		say(n, "%s is the source itself: masqueraded, or it would answer past the node", m.to.AddrPort)
	}
	return m.route || hairpin
}
