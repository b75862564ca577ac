package nftables

import (
	"fmt"
	"strings"

	"nodelet/proxy/lb"
)

// plan is everything about a frontend that its chain has to know. Frontends
// with the same plan share the chain.
type plan struct {
	nodePort bool
	action   lb.Action
	policy   policy
	masq     masquerade
	// guarded: only certain sources are admitted.
	guarded bool
	// sticky: clients stay with their endpoint.
	sticky bool
	// handed: IPVS chooses the endpoint.
	handed bool
	// cluster and local count the endpoints of the two policies.
	cluster, local int
}

type policy uint8

const (
	clusterWide policy = iota
	localOnly
	// external is policy Local as seen from several places: local endpoints
	// for what comes from outside, all for pods and the node itself.
	external
)

type masquerade uint8

const (
	never masquerade = iota
	// unlessPod: only what does not come from a pod.
	unlessPod
	always
)

// maxEndpoints bounds the slots of one policy. A Service with more is served
// by the first ones, in order of address.
const maxEndpoints = localSlots

func count(eps []lb.Endpoint) int { return min(len(eps), maxEndpoints) }

// planOf gives the plan for a frontend. AnyPort has none: it is a member of cluster-ips.
func planOf(cfg *lb.Config, t lb.Target) plan {
	p := plan{nodePort: t.Kind == lb.NodePort, guarded: t.Kind == lb.LoadBalancerIP && len(t.Sources) > 0}
	outside := t.Route(cfg, lb.FromOutside)
	if !t.Usable || outside.Action == lb.Drop && t.Kind == lb.ClusterIP {
		p.action = outside.Action
		return p
	}
	p.sticky = t.Affinity > 0
	switch {
	case t.Kind != lb.ClusterIP && t.ExternalLocal:
		p.policy, p.cluster, p.local = external, count(t.Cluster), count(t.Local)
	case outside.Local:
		p.policy, p.local = localOnly, count(t.Local)
	default:
		p.cluster = count(t.Cluster)
	}
	switch {
	case p.policy == external || !outside.Masquerade:
	case t.Kind == lb.ClusterIP && !cfg.MasqueradeAll:
		p.masq = unlessPod
	default:
		p.masq = always
	}
	return p
}

// from gives the plan for pods or for the node when p is external.
func (p plan) from(m masquerade) plan {
	p.policy, p.masq, p.local, p.guarded = clusterWide, m, 0, false
	return p
}

// dispatched tells whether NAT chains have to know the frontend: they cannot
// reject, but they can drop.
func (p plan) dispatched() bool { return p.action != lb.Reject || p.guarded }

// name is that of the plan's set and chain. It says everything, so that equal
// names are equal plans.
func (p plan) name() string {
	var parts []string
	if p.nodePort {
		parts = append(parts, "nodeport")
	}
	switch {
	case p.action != lb.Balance:
		parts = append(parts, p.action.String())
	case p.handed:
		parts = append(parts, "ipvs")
	case p.policy == localOnly:
		parts = append(parts, fmt.Sprintf("local%d", p.local))
	case p.policy == external:
		parts = append(parts, fmt.Sprintf("inside%d-outside%d", p.cluster, p.local))
	default:
		parts = append(parts, fmt.Sprintf("any%d", p.cluster))
	}
	if p.masq != never {
		parts = append(parts, [...]string{"", "masqother", "masq"}[p.masq])
	}
	if p.sticky {
		parts = append(parts, "sticky")
	}
	if p.guarded {
		parts = append(parts, "guarded")
	}
	return strings.Join(parts, "-")
}
