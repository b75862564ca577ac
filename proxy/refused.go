package proxy

import (
	"fmt"
	"sync"

	"nodelet/internal/model"
	"nodelet/proxy/lb"
)

// refused are the Ports that found no room in the kernel at the last look.
type refused struct {
	mu  sync.Mutex
	now []lb.Refusal
}

// maxRefusedEvents bounds the events of one round: where one Service finds no
// room, thousands may.
const maxRefusedEvents = 10

// becomes notes those of now, and gives those that were not refused before.
func (r *refused) becomes(now []lb.Refusal) (fresh []lb.Refusal, healed int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := map[lb.Refusal]bool{}
	for _, p := range r.now {
		before[p] = true
	}
	for _, p := range now {
		if !before[p] {
			fresh = append(fresh, p)
		}
		delete(before, p)
	}
	r.now = now
	return fresh, len(before)
}

func (r *refused) list() []lb.Refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

// reportRefused tells people which Services have no room.
func (p *Proxy) reportRefused(now []lb.Refusal) {
	fresh, healed := p.refused.becomes(now)
	if f := p.deps.Metrics.Refused; f != nil {
		f(len(now))
	}
	for i, r := range fresh {
		if i == maxRefusedEvents {
			p.deps.Log.Error("and more Services found no room in the kernel", "ports", len(fresh)-i)
			break
		}
		p.deps.Log.Error("a Service found no room in the kernel: connections to it are refused on this node", "service", r.Service, "port", r.Port, "clusterIP", r.ClusterIP, "reason", r.Reason)
		p.event(r.Service, "ServiceNotProgrammed", fmt.Sprintf("node %s has no room for port %q (%s), which is refused there: %s", p.cfg.NodeName, r.Port, r.ClusterIP, r.Reason))
	}
	if len(fresh) > 0 {
		p.event(model.Key{}, "ServiceMapFull", fmt.Sprintf("%d ports of Services are refused on this node: %s", len(now), fresh[0].Reason))
	}
	if healed > 0 {
		p.deps.Log.Info("Services that had found no room are in the kernel or gone", "ports", healed, "still refused", len(now))
	}
}
