package lb

import (
	"net/netip"
	"slices"

	"nodelet/internal/model"
)

// service is a Service compiled.
type service struct {
	ports []*Port
}

// skipped tells why a Service is none of the proxy's business; empty when it is.
func (l *local) skipped(s *model.Service) string {
	switch {
	case s.ProxyName != "":
		return "served by " + s.ProxyName
	case s.HeadlessLabel:
		return "carries the label service.kubernetes.io/headless"
	case s.Headless:
		return "headless: answered by DNS only"
	case s.Type == model.ExternalName:
		return "ExternalName: answered by DNS only"
	case len(s.ClusterIPs) == 0:
		return "has no cluster IP yet"
	case slices.ContainsFunc(s.ClusterIPs, func(a netip.Addr) bool { return slices.Contains(l.cfg.Answered, a) }):
		return "answered by this node itself"
	}
	return ""
}

// compile gives the Ports of a Service, nil when it is nobody's business here.
func compile(here *local, s *model.Service, owned []*model.Slice) *service {
	out := &service{}
	if here.skipped(s) != "" {
		for _, ip := range s.ClusterIPs {
			out.ports = append(out.ports, &Port{Service: s.Key, ClusterIP: netip.AddrPortFrom(ip, 0)})
		}
		if len(out.ports) == 0 {
			return nil
		}
		return out
	}
	for _, ip := range s.ClusterIPs {
		for i := range s.Ports {
			out.ports = append(out.ports, compilePort(here, s, portOf{ip, &s.Ports[i], owned}))
		}
	}
	return out
}

// portOf is one port of a Service in one family, to be compiled.
type portOf struct {
	ip    netip.Addr
	port  *model.ServicePort
	owned []*model.Slice
}

func compilePort(here *local, s *model.Service, in portOf) *Port {
	ipv6 := in.ip.Is6()
	p := &Port{
		Service: s.Key, Name: in.port.Name, Proto: in.port.Protocol,
		ClusterIP:     netip.AddrPortFrom(in.ip, in.port.Port),
		Affinity:      s.AffinityTimeout,
		Maglev:        s.Algorithm == model.AlgorithmMaglev || here.cfg.Maglev && s.Algorithm != model.AlgorithmRandom,
		InternalLocal: s.InternalLocal,
		Others:        others(here.cfg, s, in.port, ipv6),
	}
	p.ExternalLocal = s.ExternalLocal && len(p.Others) > 0
	p.Sources = sources(here, s, ipv6)
	all := candidates(in.owned, in.port, ipv6)
	chosen := choose(all, usageOf(p), here.place)
	p.Usable = chosen.usable
	p.Cluster = taken(all, here.place, chosen.takesCluster)
	p.Local = taken(all, here.place, chosen.takesLocal)
	for i := range all {
		if p.Proto == model.UDP && all[i].Serving {
			p.Serving = append(p.Serving, all[i].addr)
		}
	}
	return p
}

// taken gives the endpoints that a policy takes, in memory of just their size: there are many.
func taken(all []candidate, here place, takes func(*candidate, place) (bool, string)) []Endpoint {
	n := 0
	for i := range all {
		if yes, _ := takes(&all[i], here); yes {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	out := make([]Endpoint, 0, n)
	for i := range all {
		if yes, _ := takes(&all[i], here); yes {
			out = append(out, Endpoint{AddrPort: all[i].addr, Here: all[i].NodeName == "" || all[i].local(here)})
		}
	}
	return out
}

// usageOf: the Cluster policy is used by the ClusterIP unless that is Local,
// and by external frontends in any case, for what comes from inside.
func usageOf(p *Port) usage {
	return usage{cluster: !p.InternalLocal || len(p.Others) > 0, local: p.InternalLocal || p.ExternalLocal}
}

// others lists the frontends of a port besides its ClusterIP.
func others(cfg *Config, s *model.Service, port *model.ServicePort, ipv6 bool) []Claim {
	var out []Claim
	add := func(a netip.Addr, number uint16, k Kind) {
		if a.Is6() == ipv6 && a.IsValid() {
			out = append(out, Claim{Frontend{a, port.Protocol, number}, k})
		}
	}
	if port.NodePort != 0 && s.Type != model.ClusterIP {
		add(unspecified(ipv6), port.NodePort, NodePort)
	}
	for _, a := range s.ExternalIPs {
		if cfg.TakesExternalIP(a) {
			add(a, port.Port, ExternalIP)
		}
	}
	if s.Type == model.LoadBalancer {
		for _, in := range s.LoadBalancer {
			if !in.Proxy {
				add(in.IP, port.Port, LoadBalancerIP)
			}
		}
	}
	return out
}

// ServiceRanges gives the ranges of one family that ClusterIPs are taken from.
func (c *Config) ServiceRanges(ipv6 bool) (out []netip.Prefix) {
	for _, p := range c.ServiceCIDRs {
		if p.Addr().Is6() == ipv6 {
			out = append(out, p)
		}
	}
	return out
}

func unspecified(ipv6 bool) netip.Addr {
	if ipv6 {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// sources gives the ranges that may use the load balancer IPs: in order, and
// none inside another, as kernels want ranges. A load balancer may leave its
// IP on the node itself; calls from there have it as their source, so it is
// admitted where the node is.
func sources(here *local, s *model.Service, ipv6 bool) []netip.Prefix {
	var ranges []netip.Prefix
	for _, p := range s.SourceRanges {
		if p.Addr().Is6() != ipv6 {
			continue
		}
		if p.Bits() == 0 {
			return nil
		}
		ranges = append(ranges, p.Masked())
	}
	admitsNode := slices.ContainsFunc(ranges, func(p netip.Prefix) bool {
		return slices.ContainsFunc(here.addrs, p.Contains)
	})
	for _, in := range s.LoadBalancer {
		if admitsNode && !in.Proxy && in.IP.Is6() == ipv6 {
			ranges = append(ranges, netip.PrefixFrom(in.IP, in.IP.BitLen()))
		}
	}
	return disjoint(ranges)
}

// disjoint sorts and drops what lies inside another.
func disjoint(ranges []netip.Prefix) []netip.Prefix {
	slices.SortFunc(ranges, func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	})
	out := ranges[:0]
	for _, p := range ranges {
		if len(out) == 0 || !out[len(out)-1].Overlaps(p) {
			out = append(out, p)
		}
	}
	return out
}
