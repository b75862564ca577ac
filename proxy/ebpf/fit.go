package ebpf

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"nodelet/proxy/lb"
)

// sizes are numbers of elements: those that are there, or those that there may be.
type sizes struct{ ranges, members, slots, ports, frontends int }

func (s sizes) plus(o sizes) sizes {
	return sizes{s.ranges + o.ranges, s.members + o.members, s.slots + o.slots, s.ports + o.ports, s.frontends + o.frontends}
}

func (s sizes) minus(o sizes) sizes {
	return s.plus(sizes{-o.ranges, -o.members, -o.slots, -o.ports, -o.frontends})
}

// over names the first map that is too small, with its limit; empty when all fits.
func (s sizes) over(limits sizes) (name string, limit int) {
	for _, m := range []struct {
		name      string
		has, most int
	}{
		{"slots", s.slots, limits.slots}, {"members", s.members, limits.members}, {"ports", s.ports, limits.ports},
		{"frontends", s.frontends, limits.frontends}, {"ranges", s.ranges, limits.ranges},
	} {
		if m.has > m.most {
			return m.name, m.most
		}
	}
	return "", 0
}

// sizes are the elements of a pool, without its frontends.
func (p *pool) sizes() sizes {
	return sizes{ranges: len(p.sources), members: len(p.members), slots: len(p.lists[0]) + len(p.lists[1]), ports: 1}
}

func (e *elements) sizes() sizes {
	return sizes{len(e.ranges), len(e.members), len(e.slots), len(e.ports), len(e.frontends)}
}

// removed are the elements that the edits remove.
func (e *edits) removed() sizes {
	return sizes{len(e.noRanges), len(e.noMembers), len(e.noSlots), len(e.noPorts), len(e.noFrontends)}
}

// refusals are the Ports that find no room, by name.
type refusals map[portName]lb.Refusal

// fit tells which Ports find no room in maps of these sizes. Those that are in
// the maps already come first, then the others in order of their Services, so
// that all daemons with the same maps refuse the same. A Port is taken whole
// or not at all. What refuses the rest of a ClusterIP is always taken: so a
// connection to a Port that is not is refused, and goes nowhere else.
func (c *content) fit(want *lb.State, limits sizes) refusals {
	if c.certain(want, limits) {
		return nil
	}
	base := sizes{ranges: len(rangesOf(c.cfg))}
	claims := map[portName]int{}
	var ports []*lb.Port
	for _, t := range want.All() {
		if t.Kind.WholeAddress() {
			base.frontends++
			continue
		}
		claims[nameOf(t.Port)]++
		if t.Kind == lb.ClusterIP {
			ports = append(ports, t.Port)
		}
	}
	slices.SortFunc(ports, func(a, b *lb.Port) int {
		return cmp.Or(c.rank(a)-c.rank(b), a.Service.Compare(b.Service), nameOf(a).Compare(nameOf(b)))
	})
	out := refusals{}
	for _, p := range ports {
		with := base.plus(renderPool(c.cfg, &pool{}, p).sizes()).plus(sizes{frontends: claims[nameOf(p)]})
		if name, limit := with.over(limits); name != "" {
			out[nameOf(p)] = lb.Refusal{Service: p.Service, Port: p.Name, ClusterIP: p.ClusterIP, Reason: tooSmall(name, limit)}
			continue
		}
		base = with
	}
	return out
}

// certain tells that all fits, without rendering anything.
func (c *content) certain(want *lb.State, limits sizes) bool {
	name, _ := c.most(want).over(limits)
	return name == ""
}

// most bounds the elements of a State without rendering any.
func (c *content) most(want *lb.State) sizes {
	most := sizes{ranges: len(rangesOf(c.cfg)), frontends: want.Len()}
	for _, t := range want.All() {
		if t.Kind == lb.ClusterIP {
			most = most.plus(c.atMost(t.Port))
		}
	}
	return most
}

// rank is 0 for a Port that is in the maps already.
func (c *content) rank(p *lb.Port) int {
	if c.pools[nameOf(p)] != nil {
		return 0
	}
	return 1
}

// atMost bounds the elements of a Port without rendering it.
func (c *content) atMost(p *lb.Port) sizes {
	n := len(p.Cluster) + len(p.Local)
	if p.Maglev {
		return sizes{ranges: len(p.Sources), members: n + len(p.Serving), slots: 2 * maglevSize(c.cfg), ports: 1}
	}
	return sizes{ranges: len(p.Sources), members: n + len(p.Serving), slots: n, ports: 1}
}

// tooSmall says what to do about a map that is full.
func tooSmall(name string, limit int) string {
	return fmt.Sprintf("eBPF map %s has room for %d elements: give it more with --proxy-bpf-map-size=%s=%d", name, limit, name, 2*limit)
}

// list gives them in order of their Services.
func (r refusals) list() []lb.Refusal {
	return slices.SortedFunc(maps.Values(r), func(a, b lb.Refusal) int {
		return cmp.Or(a.Service.Compare(b.Service), cmp.Compare(a.Port, b.Port), a.ClusterIP.Compare(b.ClusterIP))
	})
}

// peak are the most elements there are while the edits are written to found in
// the usual order, which adds before it removes.
func (e *edits) peak(found *elements) sizes {
	return found.sizes().plus(sizes{
		fresh(&e.ranges, found.ranges), fresh(&e.members, found.members), fresh(&e.slots, found.slots),
		fresh(&e.ports, found.ports), fresh(&e.frontends, found.frontends),
	})
}

// fresh counts the elements that are new.
func fresh[K comparable, V any](p *puts[K, V], found map[K]V) (n int) {
	for _, k := range p.keys {
		if _, there := found[k]; !there {
			n++
		}
	}
	return n
}

// writeTight writes the edits to found where there is no room to add before
// something is removed: what nobody asks for any more goes first. A list that
// becomes shorter is cut first; who still draws a slot of its old end gets the
// first one (pick in bpf/lookup.h).
func (e *edits) writeTight(t *tables, found *elements) error {
	cut := &puts[uint32, proxyPort]{}
	for i, id := range e.ports.keys {
		old, known := found.ports[id]
		now := e.ports.values[i]
		if short := min(old.Slots, now.Slots); known && (short < old.Slots || now.Local < old.Local) {
			old.Slots, old.Local = short, min(old.Local, now.Local)
			cut.add(id, old)
		}
	}
	return steps(
		func() error { return t.frontends.remove(e.noFrontends) },
		func() error { return t.ports.put(cut) },
		func() error { return t.ports.remove(e.noPorts) },
		func() error { return t.slots.remove(e.noSlots) },
		func() error { return t.members.remove(e.noMembers) },
		func() error { return t.ranges.remove(e.noRanges) },
		func() error { return t.ranges.put(&e.ranges) },
		func() error { return t.members.put(&e.members) },
		func() error { return t.slots.put(&e.slots) },
		func() error { return t.ports.put(&e.ports) },
		func() error { return t.frontends.put(&e.frontends) },
		func() error { return t.ports.put(&e.emptied) },
	)
}

// steps does one after the other until one fails.
func steps(all ...func() error) error {
	for _, step := range all {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
