package lb

import (
	"iter"
	"net/netip"

	"nodelet/internal/model"
)

// HealthCheck is what a load balancer may ask this node about a Service with
// external traffic policy Local (spec.healthCheckNodePort).
type HealthCheck struct {
	Port uint16
	// Local counts the ready endpoints on this node, by address.
	Local int
}

// HealthChecks yields the Services that have one, in no particular order.
func (s *State) HealthChecks() iter.Seq2[model.Key, HealthCheck] { return s.checks.all() }

// updateCheck keeps the health check of one Service; m is nil when it is gone.
func (s *State) updateCheck(ed *editor, k model.Key, m *model.Service) {
	old, was := s.checks.get(k)
	if m == nil || m.HealthCheckNodePort == 0 || m.Type != model.LoadBalancer || !m.ExternalLocal || s.here.skipped(m) != "" {
		if was {
			s.checks.delete(ed, k)
		}
		return
	}
	owned, _ := s.owned.get(k)
	fresh := HealthCheck{Port: m.HealthCheckNodePort, Local: readyHere(owned, s.here.node)}
	if !was || old != fresh {
		s.checks.set(ed, k, fresh)
	}
}

func readyHere(owned []*model.Slice, node string) int {
	addrs := map[netip.Addr]bool{}
	for _, sl := range owned {
		for i := range sl.Endpoints {
			if e := &sl.Endpoints[i]; e.Ready && e.NodeName == node {
				addrs[e.Addr] = true
			}
		}
	}
	return len(addrs)
}

// WithoutLocal counts the Services of a family whose internal or external
// traffic policy is Local and that have no endpoint on this node. A nil State has none.
func (s *State) WithoutLocal(ipv6 bool) (internal, external int) {
	if s == nil {
		return 0, 0
	}
	for _, svc := range s.services.all() {
		var in, ex bool
		for _, p := range svc.ports {
			if p.ClusterIP.Addr().Is6() == ipv6 && p.Usable && len(p.Local) == 0 {
				in, ex = in || p.InternalLocal, ex || p.ExternalLocal
			}
		}
		if in {
			internal++
		}
		if ex {
			external++
		}
	}
	return internal, external
}
