package lb

import (
	"iter"
	"net/netip"
	"slices"

	"nodelet/internal/model"
	"nodelet/internal/store"
)

// State is what all Services mean on this node at one revision.
type State struct {
	cfg  *Config
	here *local
	// What it was compiled from.
	snapshot *store.Snapshot
	// owned lists the slices of each Service.
	owned    tree[model.Key, []*model.Slice]
	services tree[model.Key, *service]
	// frontends lists who claims each frontend, the winner first.
	frontends tree[Frontend, []Target]
	// here-endpoints' addresses by the number of their uses.
	loops tree[netip.Addr, int]
	// checks are the health check node ports.
	checks tree[model.Key, HealthCheck]
}

// local is what matters of the local node. podCIDRs is empty unless they tell
// local traffic: they shall not cost a Compile in vain.
type local struct {
	place
	addrs    []netip.Addr
	podCIDRs []netip.Prefix
	// serviceCIDRs are the cluster's: they change as rarely.
	serviceCIDRs []netip.Prefix
	// cfg says what else a Service's meaning depends on.
	cfg *Config
}

func localOf(cfg *Config, snap *store.Snapshot) *local {
	l := &local{place: place{node: cfg.NodeName}, cfg: cfg}
	if n, ok := snap.Nodes.Get(model.Key{Name: cfg.NodeName}); ok {
		l.zone = n.Zone()
		l.addrs = append(append(l.addrs, n.InternalIPs...), n.ExternalIPs...)
		if cfg.Local.Mode == ByNodeCIDR {
			l.podCIDRs = n.PodCIDRs
		}
	}
	for _, c := range snap.ServiceCIDRs.All() {
		l.serviceCIDRs = append(l.serviceCIDRs, c.CIDRs...)
	}
	l.serviceCIDRs = disjoint(l.serviceCIDRs)
	return l
}

func (l *local) equal(o *local) bool {
	return l.place == o.place && slices.Equal(l.addrs, o.addrs) && slices.Equal(l.podCIDRs, o.podCIDRs) &&
		slices.Equal(l.serviceCIDRs, o.serviceCIDRs)
}

// Empty is the State of a world without Services.
func Empty(cfg *Config) *State {
	return &State{
		cfg: cfg, here: &local{place: place{node: cfg.NodeName}, cfg: cfg},
		owned:     tree[model.Key, []*model.Slice]{hash: hashKey},
		services:  tree[model.Key, *service]{hash: hashKey},
		frontends: tree[Frontend, []Target]{hash: hashFrontend},
		loops:     tree[netip.Addr, int]{hash: hashAddr},
		checks:    tree[model.Key, HealthCheck]{hash: hashKey},
	}
}

func hashKey(k model.Key) uint32 {
	return mix(fnv1a(fnv1a(fnvStart, k.Namespace)*31, k.Name))
}

func hashAddr(a netip.Addr) uint32 {
	b := a.As16()
	return mix(fnv1a(fnvStart, b[:]))
}

func hashFrontend(f Frontend) uint32 {
	b := f.Addr.As16()
	return mix(fnv1a(fnv1a(fnvStart, b[:]), []byte{byte(f.Port >> 8), byte(f.Port), byte(f.Proto)}))
}

// Compile gives the State of a snapshot from scratch.
func Compile(cfg *Config, snap *store.Snapshot) *State { return Advance(Empty(cfg), snap) }

// Advance gives the State of a snapshot from that of an older one, at the
// price of what changed. A change of the local node costs a full Compile.
func Advance(prev *State, snap *store.Snapshot) *State {
	if here := localOf(prev.cfg, snap); !here.equal(prev.here) {
		fresh := Empty(prev.cfg.on(here))
		fresh.here = here
		return advance(fresh, snap, prev)
	}
	return advance(prev, snap, prev)
}

// advance builds on base; values that came out as they are in reuse are taken from there.
func advance(base *State, snap *store.Snapshot, reuse *State) *State {
	var services store.Table[model.Key, *model.Service]
	var slicesBefore store.Table[model.Key, *model.Slice]
	if base.snapshot != nil {
		services, slicesBefore = base.snapshot.Services, base.snapshot.Slices
	}
	next := *base
	next.snapshot = snap
	ed := &editor{}
	dirty := map[model.Key]bool{}
	for d := range snap.Slices.Since(slicesBefore) {
		if d.Was {
			next.disown(ed, d.Old)
			dirty[d.Old.Service] = true
		}
		if d.Is {
			next.own(ed, d.New)
			dirty[d.New.Service] = true
		}
	}
	for d := range snap.Services.Since(services) {
		dirty[d.Key] = true
	}
	for k := range dirty {
		next.update(ed, k, reuse)
	}
	return &next
}

func (s *State) own(ed *editor, sl *model.Slice) {
	old, _ := s.owned.get(sl.Service)
	s.owned.set(ed, sl.Service, append(slices.Clone(old), sl))
}

func (s *State) disown(ed *editor, sl *model.Slice) {
	old, _ := s.owned.get(sl.Service)
	left := slices.DeleteFunc(slices.Clone(old), func(o *model.Slice) bool { return o.Key == sl.Key })
	if len(left) == 0 {
		s.owned.delete(ed, sl.Service)
		return
	}
	s.owned.set(ed, sl.Service, left)
}

// update compiles one Service anew and moves its claims.
func (s *State) update(ed *editor, k model.Key, reuse *State) {
	var fresh *service
	m, ok := s.snapshot.Services.Get(k)
	s.updateCheck(ed, k, m)
	if ok {
		owned, _ := s.owned.get(k)
		fresh = compile(s.here, m, owned)
	}
	old, _ := s.services.get(k)
	if before, ok := reuse.services.get(k); ok && fresh != nil {
		fresh.takeOver(before)
	}
	if old == fresh || old != nil && fresh != nil && slices.Equal(old.ports, fresh.ports) {
		return
	}
	if old != nil {
		for _, p := range old.ports {
			if fresh == nil || !slices.Contains(fresh.ports, p) {
				s.release(ed, p)
			}
		}
	}
	if fresh == nil {
		s.services.delete(ed, k)
		return
	}
	for _, p := range fresh.ports {
		if old == nil || !slices.Contains(old.ports, p) {
			s.claim(ed, p)
		}
	}
	s.services.set(ed, k, fresh)
}

// takeOver uses the Ports of before where they say the same, so that equal is
// identical.
func (s *service) takeOver(before *service) {
	for i, p := range s.ports {
		for _, q := range before.ports {
			if p.equal(q) {
				s.ports[i] = q
			}
		}
	}
}

// claims yields all frontends of a Port.
func (p *Port) claims() iter.Seq[Claim] {
	return func(yield func(Claim) bool) {
		ip := p.ClusterIP.Addr()
		if p.Proto == 0 {
			yield(Claim{Frontend{Addr: ip}, Elsewhere})
			return
		}
		if !yield(Claim{Frontend{ip, p.Proto, p.ClusterIP.Port()}, ClusterIP}) || !yield(Claim{Frontend{Addr: ip}, AnyPort}) {
			return
		}
		for _, c := range p.Others {
			if !yield(c) {
				return
			}
		}
	}
}

// hairpins yields the addresses of the Port's endpoints that may be here.
func (p *Port) hairpins() iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		for _, eps := range [][]Endpoint{p.Cluster, p.Local} {
			for _, e := range eps {
				if e.Here && !yield(e.Addr()) {
					return
				}
			}
		}
	}
}

func (s *State) claim(ed *editor, p *Port) {
	for c := range p.claims() {
		old, _ := s.frontends.get(c.Frontend)
		all := make([]Target, len(old), len(old)+1)
		copy(all, old)
		all = append(all, Target{p, c.Kind})
		if len(all) > 1 {
			slices.SortFunc(all, Target.precedence)
		}
		s.frontends.set(ed, c.Frontend, all)
	}
	for a := range p.hairpins() {
		n, _ := s.loops.get(a)
		s.loops.set(ed, a, n+1)
	}
}

func (s *State) release(ed *editor, p *Port) {
	for c := range p.claims() {
		old, _ := s.frontends.get(c.Frontend)
		left := slices.DeleteFunc(slices.Clone(old), func(t Target) bool { return t.Port == p })
		if len(left) == 0 {
			s.frontends.delete(ed, c.Frontend)
		} else {
			s.frontends.set(ed, c.Frontend, left)
		}
	}
	for a := range p.hairpins() {
		if n, _ := s.loops.get(a); n > 1 {
			s.loops.set(ed, a, n-1)
		} else {
			s.loops.delete(ed, a)
		}
	}
}
