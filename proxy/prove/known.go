package prove

import (
	"context"
	"slices"
	"strings"

	"nodelet/internal/model"
	"nodelet/proxy/eval"
	"nodelet/proxy/lb"
)

// Difference is something that another proxy is known to do otherwise. docs/proxy.md lists them.
type Difference struct {
	// Name is that in docs/proxy.md, Why one line for people.
	Name, Why string
	// modes of kube-proxy that have it; none is all.
	modes []string
	// covers tells whether it may be why a packet fares otherwise than the verdict says.
	covers func(s *lb.State, p eval.Packet, v eval.Verdict) bool
}

// Differences are those of a mode of kube-proxy v1.36.
func Differences(mode string) []Difference {
	all := []Difference{
		{
			Name: "unserved-ports", modes: []string{"iptables"},
			Why: "ports of a ClusterIP that no Service port has are left to whoever routes them",
			covers: func(_ *lb.State, _ eval.Packet, v eval.Verdict) bool {
				return v.Outcome == eval.Reject && v.Target.Port != nil && v.Target.Kind == lb.AnyPort
			},
		},
		{
			// Mode nftables is not given any ServiceCIDRs: it takes a change of them up
			// only when it writes all its rules anew, which no case waits for.
			Name: "unassigned-addresses",
			Why:  "what is sent to a cluster IP that no Service has is left to whoever routes it",
			covers: func(_ *lb.State, _ eval.Packet, v eval.Verdict) bool {
				return v.Outcome == eval.Drop && v.Target.Kind == lb.Unassigned
			},
		},
		{
			Name: "hairpin-elsewhere", modes: []string{"iptables"},
			Why: "an endpoint that reaches itself is masqueraded on every node, not only on its own",
			covers: func(_ *lb.State, p eval.Packet, v eval.Verdict) bool {
				return v.Outcome == eval.DNAT && toItself(p, v)
			},
		},
		{
			Name: "node-to-empty", modes: []string{"iptables"},
			Why: "what the node itself sends to an external or load balancer IP without endpoints is not refused",
			covers: func(_ *lb.State, p eval.Packet, v eval.Verdict) bool {
				return p.From == lb.FromNode && v.Outcome == eval.Reject && v.Target.Port != nil && v.Target.Kind != lb.ClusterIP && v.Target.Kind != lb.NodePort
			},
		},
		{
			Name: "ranges-of-empty", modes: []string{"iptables"},
			Why: "without endpoints a load balancer IP refuses everybody, also those outside of loadBalancerSourceRanges, who are dropped otherwise",
			covers: func(_ *lb.State, _ eval.Packet, v eval.Verdict) bool {
				return v.Outcome == eval.Drop && v.Target.Port != nil && v.Target.Kind == lb.LoadBalancerIP && !v.Target.Usable
			},
		},
		{
			Name: "contested-address",
			Why:  "of several Services that claim one address and port, the one that it happens to come to first or last has it",
			covers: func(s *lb.State, p eval.Packet, _ eval.Verdict) bool {
				return claims(s, p) > 1
			},
		},
	}
	return slices.DeleteFunc(all, func(d Difference) bool { return d.modes != nil && !slices.Contains(d.modes, mode) })
}

// claims counts the Services that want a packet's destination as an external address.
func claims(s *lb.State, p eval.Packet) (n int) {
	for _, svc := range s.Source().Services.All() {
		addr := slices.Contains(svc.ExternalIPs, p.Dst.Addr()) || slices.ContainsFunc(svc.LoadBalancer, func(in model.LoadBalancerIngress) bool {
			return svc.Type == model.LoadBalancer && in.IP == p.Dst.Addr()
		})
		port := slices.ContainsFunc(svc.Ports, func(sp model.ServicePort) bool { return sp.Protocol == p.Proto && sp.Port == p.Dst.Port() })
		if addr && port {
			n++
		}
	}
	return n
}

// knowing passes over known differences, and counts them.
type knowing struct {
	Subject
	known []Difference
	// unasked: what a known difference covers is not asked for at all. Real packets wait long for
	// answers that do not come.
	unasked bool
	seen    map[string]int
}

// Known counts the packets that fared otherwise, by the name of the difference.
func (k *knowing) Known() map[string]int { return k.seen }

// Disagree gives the first disagreement that is no known difference.
func (k *knowing) Disagree(ctx context.Context, s *lb.State, packets []string) (string, error) {
	for len(packets) > 0 {
		if k.unasked {
			packets = slices.DeleteFunc(slices.Clone(packets), func(text string) bool { return k.covered(s, text) != "" })
		}
		what, err := k.Subject.Disagree(ctx, s, packets)
		if err != nil || what == "" {
			return what, err
		}
		text, _, _ := strings.Cut(what, "\n")
		name, at := k.covered(s, text), slices.Index(packets, text)
		if name == "" || at < 0 {
			return what, nil
		}
		k.seen[name]++
		packets = packets[at+1:]
	}
	return "", nil
}

// covered names the difference that covers a packet; empty for none.
func (k *knowing) covered(s *lb.State, text string) string {
	p, _, err := packet(text)
	if err != nil {
		return "" // the subject says so
	}
	v := eval.Eval(s, p)
	for _, d := range k.known {
		if d.covers(s, p, v) {
			return d.Name
		}
	}
	return ""
}
