package lb

import (
	"cmp"
	"net/netip"
	"slices"

	"nodelet/internal/model"
)

// candidate is an endpoint of a Port before the choice.
type candidate struct {
	addr netip.AddrPort
	*model.Endpoint
	slice model.Key
}

// rank prefers the better of two entries for one address: an endpoint may be
// in two slices for a moment while it moves between them.
func (c *candidate) rank() int {
	switch {
	case c.Ready:
		return 0
	case c.Serving:
		return 1
	case c.Terminating:
		return 2
	}
	return 3
}

// candidates lists the endpoints of one port of a Service, in order of address, each once.
func candidates(owned []*model.Slice, port *model.ServicePort, ipv6 bool) []candidate {
	var all []candidate
	for _, s := range owned {
		if s.IPv6 != ipv6 {
			continue
		}
		for _, p := range s.Ports {
			if p.Name != port.Name || p.Protocol != port.Protocol || p.Port == 0 {
				continue
			}
			all = slices.Grow(all, len(s.Endpoints))
			for i := range s.Endpoints {
				e := &s.Endpoints[i]
				all = append(all, candidate{addr: netip.AddrPortFrom(e.Addr, p.Port), Endpoint: e, slice: s.Key})
			}
		}
	}
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(a.addr.Compare(b.addr), cmp.Compare(a.rank(), b.rank()), a.slice.Compare(b.slice))
	})
	return slices.CompactFunc(all, func(a, b candidate) bool { return a.addr == b.addr })
}

// place is where this node is, for topology.
type place struct{ node, zone string }

// usage says which traffic policies a Service uses.
type usage struct{ cluster, local bool }

// selection is the outcome of the choice.
type selection struct {
	usage
	// byNode and byZone: hints limit the Cluster policy to them.
	byNode, byZone bool
	// lastResort: no endpoint is ready, so those that terminate and still serve are used.
	clusterLastResort, localLastResort bool
	usable                             bool
}

// choose looks at all candidates and settles which of them the policies take:
// ready ones first, narrowed by topology hints when every ready one has them;
// when there is none, those that are terminating and still serve, for each
// policy by itself.
func choose(all []candidate, u usage, here place) selection {
	s := selection{usage: u}
	s.byNode, s.byZone = hinted(all, here)
	var ready, fading, localReady, localFading bool
	for i := range all {
		c := &all[i]
		local := c.local(here)
		if c.Ready {
			ready, localReady = true, localReady || local
		} else if c.fading() {
			fading, localFading = true, localFading || local
		}
	}
	s.usable = ready || fading
	s.clusterLastResort = !ready && fading
	s.localLastResort = !localReady && localFading
	return s
}

func (c *candidate) local(here place) bool { return c.NodeName != "" && c.NodeName == here.node }
func (c *candidate) fading() bool          { return c.Serving && c.Terminating && !c.Ready }

// hinted tells whether hints count: for a node, or else a zone, when every
// ready endpoint has a hint of that kind and one of them names this place.
func hinted(all []candidate, here place) (byNode, byZone bool) {
	allNodes, allZones := true, true
	for i := range all {
		c := &all[i]
		if !c.Ready {
			continue
		}
		allNodes = allNodes && len(c.Hints.Nodes()) > 0
		allZones = allZones && len(c.Hints.Zones()) > 0
		byNode = byNode || slices.Contains(c.Hints.Nodes(), here.node)
		byZone = byZone || slices.Contains(c.Hints.Zones(), here.zone)
	}
	byNode = byNode && allNodes
	return byNode, !byNode && byZone && allZones
}

// cluster tells whether the Cluster policy takes the candidate; if not, why.
func (s *selection) takesCluster(c *candidate, here place) (bool, string) {
	switch {
	case !s.usage.cluster:
		return false, "the Service uses local endpoints only"
	case s.clusterLastResort:
		if c.fading() {
			return true, ""
		}
		return false, "not ready and not serving"
	case !c.Ready:
		return false, whyNot(c)
	case s.byNode && !slices.Contains(c.Hints.Nodes(), here.node):
		return false, "hinted for other nodes"
	case s.byZone && !slices.Contains(c.Hints.Zones(), here.zone):
		return false, "hinted for other zones"
	}
	return true, ""
}

// local tells whether the Local policy takes the candidate; if not, why.
func (s *selection) takesLocal(c *candidate, here place) (bool, string) {
	switch {
	case !s.usage.local:
		return false, ""
	case !c.local(here):
		return false, "on another node"
	case s.localLastResort && c.fading():
		return true, ""
	case s.localLastResort || !c.Ready:
		return false, whyNot(c)
	}
	return true, ""
}

func whyNot(c *candidate) string {
	switch {
	case c.fading():
		return "terminating, and others are ready"
	case c.Terminating:
		return "terminating and no longer serving"
	}
	return "not ready"
}
