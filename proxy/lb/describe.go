package lb

import (
	"net/netip"
	"slices"
	"time"

	"nodelet/internal/model"
)

// View is what people are shown of one port of a Service in one family, or of
// a Service that is skipped.
type View struct {
	Service string `json:"service"`
	// Skipped says why the proxy has nothing to do with the Service.
	Skipped   string         `json:"skipped,omitempty"`
	Port      string         `json:"port,omitempty"`
	Protocol  string         `json:"protocol,omitempty"`
	ClusterIP netip.AddrPort `json:"clusterIP,omitzero"`
	// Frontends are the other addresses, as text; Disputed those another Service has.
	Frontends []string `json:"frontends,omitempty"`
	Disputed  []string `json:"disputed,omitempty"`
	// Outside are external IPs that are not served because of Config.ExternalIPRanges.
	Outside         []netip.Addr `json:"externalIPsOutsideRanges,omitempty"`
	AffinitySeconds int          `json:"affinitySeconds,omitempty"`
	// Algorithm is maglev, or empty; BadAlgorithm is what the annotation says that nobody knows.
	Algorithm      string         `json:"algorithm,omitempty"`
	BadAlgorithm   string         `json:"badAlgorithm,omitempty"`
	InternalPolicy string         `json:"internalTrafficPolicy,omitempty"`
	ExternalPolicy string         `json:"externalTrafficPolicy,omitempty"`
	Usable         bool           `json:"usable"`
	Endpoints      []EndpointView `json:"endpoints,omitempty"`
}

// EndpointView is one endpoint, chosen or not.
type EndpointView struct {
	Address netip.AddrPort `json:"address"`
	// State is ready, serving, terminating or not-ready.
	State string `json:"state"`
	Node  string `json:"node,omitempty"`
	Pod   string `json:"pod,omitempty"`
	Slice string `json:"slice"`
	// Cluster and Local tell which traffic policies use it; when one does not,
	// the reason stands beside it.
	Cluster    bool   `json:"cluster"`
	WhyCluster string `json:"whyNotCluster,omitempty"`
	Local      bool   `json:"local"`
	WhyLocal   string `json:"whyNotLocal,omitempty"`
}

// Describe lists all Services, in order of their keys, with every endpoint and
// why it is in or out.
func (s *State) Describe() []View {
	if s.snapshot == nil {
		return nil
	}
	var out []View
	for k, m := range s.snapshot.Services.All() {
		if why := s.here.skipped(m); why != "" {
			out = append(out, View{Service: k.String(), Skipped: why})
			continue
		}
		if compiled, ok := s.services.get(k); ok {
			for _, p := range compiled.ports {
				out = append(out, s.view(p))
			}
		}
	}
	return out
}

func (s *State) view(p *Port) View {
	v := View{
		Service: p.Service.String(), Port: p.Name, Protocol: p.Proto.String(), ClusterIP: p.ClusterIP,
		AffinitySeconds: int(p.Affinity / time.Second), Usable: p.Usable, InternalPolicy: policyName(p.InternalLocal),
	}
	if p.Maglev {
		v.Algorithm = model.AlgorithmMaglev
	}
	if m, ok := s.snapshot.Services.Get(p.Service); ok {
		if !slices.Contains([]string{"", model.AlgorithmMaglev, model.AlgorithmRandom}, m.Algorithm) {
			v.BadAlgorithm = m.Algorithm
		}
		for _, a := range m.ExternalIPs {
			if a.Is6() == p.ClusterIP.Addr().Is6() && !s.cfg.TakesExternalIP(a) {
				v.Outside = append(v.Outside, a)
			}
		}
	}
	if len(p.Others) > 0 {
		v.ExternalPolicy = policyName(p.ExternalLocal)
	}
	for _, c := range p.Others {
		v.Frontends = append(v.Frontends, c.Kind.String()+" "+c.Frontend.String())
	}
	for c := range p.claims() {
		if t, ok := s.Lookup(c.Frontend); ok && t.Service != p.Service {
			v.Disputed = append(v.Disputed, c.Frontend.String()+" belongs to "+t.Service.String())
		}
	}
	owned, _ := s.owned.get(p.Service)
	port := &model.ServicePort{Name: p.Name, Protocol: p.Proto}
	all := candidates(owned, port, p.ClusterIP.Addr().Is6())
	chosen := choose(all, usageOf(p), s.here.place)
	for i := range all {
		c := &all[i]
		e := EndpointView{Address: c.addr, State: c.State(), Node: c.NodeName, Slice: c.slice.String()}
		if c.Pod.Name != "" {
			e.Pod = c.Pod.String()
		}
		e.Cluster, e.WhyCluster = chosen.takesCluster(c, s.here.place)
		e.Local, e.WhyLocal = chosen.takesLocal(c, s.here.place)
		v.Endpoints = append(v.Endpoints, e)
	}
	slices.Sort(v.Frontends)
	return v
}

func policyName(local bool) string {
	if local {
		return "Local"
	}
	return "Cluster"
}
