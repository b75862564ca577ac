package proxy

import (
	"context"

	"nodelet/internal/conntrack"
	"nodelet/internal/model"
	"nodelet/proxy/lb"
)

// adopter is a drainer that can go on with UDP flows that netfilter has begun. TCP need not be handed
// over: its first packets are known, so the others stay with who began them.
type adopter interface {
	// Adopt hands flows over, before Apply; Adopted are those that it took.
	Adopt(flows []lb.UDPFlow)
	Adopted() []lb.UDPFlow
}

// offer hands over what netfilter translates of UDP. Flows that cannot be read begin anew.
func (p *Proxy) offer(ctx context.Context, to Backend) {
	a, ok := to.(adopter)
	if !ok {
		return
	}
	var flows []lb.UDPFlow
	for _, ipv6 := range []bool{false, true} {
		all, err := p.flows.List(ctx, ipv6)
		if err != nil {
			p.deps.Log.Warn("read the UDP flows to take over", "ipv6", ipv6, "err", err)
		}
		for _, f := range all {
			if f.Proto == uint8(model.UDP) && f.AnswersFrom != f.Dst {
				flows = append(flows, flowOf(f))
			}
		}
	}
	a.Adopt(flows)
}

func flowOf(f conntrack.Flow) lb.UDPFlow {
	return lb.UDPFlow{Client: f.Src, Frontend: f.Dst, Endpoint: f.AnswersFrom, Source: f.AnswersTo}
}

// takenOver forgets in connection tracking what a back end has taken: netfilter would give the same
// packets, which it now meets translated, another source port. It gives their number.
func (p *Proxy) takenOver(ctx context.Context, by Backend) (n int) {
	a, ok := by.(adopter)
	if !ok {
		return 0
	}
	taken := map[lb.UDPFlow]bool{}
	for _, f := range a.Adopted() {
		taken[f] = true
	}
	if len(taken) == 0 {
		return 0
	}
	for _, ipv6 := range []bool{false, true} {
		deleted, err := p.flows.Delete(ctx, ipv6, func(f conntrack.Flow) bool {
			return f.Proto == uint8(model.UDP) && taken[flowOf(f)]
		})
		n += deleted
		if err != nil {
			p.deps.Log.Warn("forget the UDP flows that were taken over", "ipv6", ipv6, "err", err)
		}
	}
	return n
}
