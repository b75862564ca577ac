package cpuplan

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"

	"nodelet/agent/exclusive/alignplan"
)

// within takes all that is left from the one group that has enough, and of those from the fullest.
func (a *taker) within(t Topology, all []Set) {
	var best Set
	for _, g := range all {
		if free := g.And(a.free); a.left > 0 && len(free) >= a.left && (best == nil || len(free) < len(best)) {
			best = free
		}
	}
	if best != nil {
		a.take(Options{}.pack(t, best, a.left))
	}
}

// apart takes one thread of each core before it takes a second one of any.
func (a *taker) apart(t Topology) {
	nth := map[int]int{} // of the free threads of a core
	type thread struct {
		CPU
		n int
	}
	var free []thread
	for _, c := range t {
		if a.free.Has(c.ID) {
			free = append(free, thread{c, nth[c.Core]})
			nth[c.Core]++
		}
	}
	before := a.nearness(t, a.free)
	slices.SortStableFunc(free, func(x, y thread) int {
		return cmp.Or(before(x.CPU, y.CPU), cmp.Compare(x.n, y.n), cmp.Compare(x.Core, y.Core), cmp.Compare(x.ID, y.ID))
	})
	for _, c := range free[:min(a.left, len(free))] {
		a.take(Set{c.ID})
	}
}

// node is what is free of a NUMA node, and how much of it to take.
type node struct {
	free Set
	take int
}

// spread takes evenly much of as few nodes as hold it, in whole cores where only those are given out; nil
// where that is not possible.
func (o Options) spread(t Topology, free Set, n int) Set {
	group := 1
	if o.WholeCores {
		group = t.PerCore()
	}
	var nodes []node
	for _, all := range groups(t, func(c CPU) int { return c.NUMA }) {
		if f := all.And(free); len(f) > 0 {
			nodes = append(nodes, node{free: f})
		}
	}
	if n%group != 0 || len(nodes) > alignplan.MaxNodes {
		return nil
	}
	for k := 1; k <= len(nodes); k++ {
		if best := evenest(nodes, k, n/group, group); best != nil {
			var out Set
			for _, x := range best {
				out = out.With(o.pack(t, x.free, x.take))
			}
			return out
		}
	}
	return nil
}

// evenest takes that many groups of CPUs from k of the nodes, so that what is left free differs least
// between all of them; nil where no k of them have that.
func evenest(nodes []node, k, count, group int) []node {
	var best []node
	least := -1
	for set := range uint64(1) << len(nodes) {
		if bits.OnesCount64(set) != k {
			continue
		}
		shared := share(nodes, set, count, group)
		if shared == nil {
			continue
		}
		// The sum is always the same, so the squares are least where all are equal.
		squares := 0
		for _, x := range shared {
			left := len(x.free) - x.take
			squares += left * left
		}
		if least < 0 || squares < least {
			best, least = shared, squares
		}
	}
	return best
}

// share divides groups among the nodes of a set, each the same and the rest to those that have most left.
func share(nodes []node, set uint64, count, group int) []node {
	out := slices.Clone(nodes)
	var in []*node
	for i := range out {
		if set&(1<<i) != 0 {
			in = append(in, &out[i])
		}
	}
	each := count / len(in)
	for _, x := range in {
		if x.take = each * group; x.take > len(x.free) || each == 0 {
			return nil
		}
	}
	slices.SortStableFunc(in, func(x, y *node) int { return cmp.Compare(len(y.free), len(x.free)) })
	for rest := count % len(in); rest > 0; {
		given := false
		for _, x := range in {
			if rest > 0 && len(x.free)-x.take >= group {
				x.take, rest, given = x.take+group, rest-1, true
			}
		}
		if !given {
			return nil
		}
	}
	return out
}

// Hints are the NUMA nodes where n CPUs can be had; lent are those that the container gets in any case.
func (o Options) Hints(t Topology, free, lent Set, n int) []alignplan.Hint {
	nodes := t.Nodes()
	hints := alignplan.Hints(nodes, alignplan.Supply{
		Need: n,
		All:  func(at alignplan.Nodes) int { return len(t.At(at)) },
		Free: func(at alignplan.Nodes) int {
			here := t.At(at)
			if len(lent.Without(here)) > 0 {
				return -1
			}
			return len(here.And(free.With(lent)))
		},
	})
	if o.Sockets {
		t.preferSockets(hints, n)
	}
	return hints
}

// preferSockets prefers all places that span no more sockets than n CPUs must.
func (t Topology) preferSockets(hints []alignplan.Hint, n int) {
	sockets := func(at alignplan.Nodes) int {
		seen := map[int]bool{}
		for _, c := range t {
			if at.Has(c.NUMA) {
				seen[c.Socket] = true
			}
		}
		return len(seen)
	}
	nodes := t.Nodes()
	least := sockets(nodes)
	for at := range nodes.Subsets() {
		if len(t.At(at)) >= n {
			least = min(least, sockets(at))
		}
	}
	for i := range hints {
		hints[i].Preferred = hints[i].Preferred || sockets(hints[i].Nodes) == least
	}
}

// Nodes are the NUMA nodes that have CPUs.
func (t Topology) Nodes() (all alignplan.Nodes) {
	for _, c := range t {
		all |= alignplan.Of(c.NUMA)
	}
	return all
}

// CheckNodes says why no topology policy works on a machine with these nodes.
func (t Topology) CheckNodes() error {
	nodes := map[int]bool{}
	for _, c := range t {
		if nodes[c.NUMA] = true; c.NUMA > 63 {
			return fmt.Errorf("this machine has a NUMA node %d: numbers above 63 are not supported", c.NUMA)
		}
	}
	if len(nodes) > alignplan.MaxNodes {
		return fmt.Errorf("this machine has %d NUMA nodes: at most %d are supported", len(nodes), alignplan.MaxNodes)
	}
	return nil
}

// Sockets is how many there are.
func (t Topology) Sockets() int { return len(groups(t, func(c CPU) int { return c.Socket })) }

// At are the CPUs of NUMA nodes.
func (t Topology) At(nodes alignplan.Nodes) (s Set) {
	for _, c := range t {
		if nodes.Has(c.NUMA) {
			s = append(s, c.ID)
		}
	}
	slices.Sort(s)
	return s
}

// Near are the CPUs that count as near to NUMA nodes: theirs, and with align-by-socket those of their sockets.
func (o Options) Near(t Topology, nodes alignplan.Nodes) Set {
	if nodes == 0 {
		return t.All()
	}
	s := t.At(nodes)
	if o.Sockets {
		at := map[int]bool{}
		for _, c := range t {
			if nodes.Has(c.NUMA) {
				at[c.Socket] = true
			}
		}
		for _, c := range t {
			if at[c.Socket] {
				s = s.With(Set{c.ID})
			}
		}
	}
	return s
}
