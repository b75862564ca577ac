package alignplan

import (
	"cmp"
	"fmt"
	"iter"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// MaxNodes is how many NUMA nodes a machine may have for any policy but None: the work grows with two to
// that power. It is upstream's default.
const MaxNodes = 8

// Nodes is a set of NUMA nodes, a bit each; as a place, the empty set is anywhere.
type Nodes uint64

// Of makes a set.
func Of(ids ...int) (n Nodes) {
	for _, id := range ids {
		n |= 1 << id
	}
	return n
}

// Has tells whether a node is in the set.
func (n Nodes) Has(id int) bool { return n&(1<<id) != 0 }

// Count is how many there are.
func (n Nodes) Count() int { return bits.OnesCount64(uint64(n)) }

// Subsets are all sets of these nodes but the empty one, in the order of their numbers.
func (n Nodes) Subsets() iter.Seq[Nodes] {
	return func(yield func(Nodes) bool) {
		for s := -n & n; s != 0; s = (s - n) & n {
			if !yield(s) {
				return
			}
		}
	}
}

// String lists the nodes, or says any.
func (n Nodes) String() string {
	if n == 0 {
		return "any"
	}
	var ids []string
	for id := range 64 {
		if n.Has(id) {
			ids = append(ids, strconv.Itoa(id))
		}
	}
	return strings.Join(ids, ",")
}

// Policy is topologyManagerPolicy.
type Policy string

// The policies. The zero value asks for nothing, as None does.
const (
	None       Policy = "none"
	BestEffort Policy = "best-effort"
	Restricted Policy = "restricted"
	SingleNode Policy = "single-numa-node"
)

// Parse reads a policy as configuration files write it.
func Parse(text string) (Policy, error) {
	all := []Policy{None, BestEffort, Restricted, SingleNode}
	if p := Policy(text); slices.Contains(all, p) {
		return p, nil
	}
	return None, fmt.Errorf("%q is no policy: none, best-effort, restricted or single-numa-node", text)
}

// On tells whether the policy asks for anything.
func (p Policy) On() bool { return p != None && p != "" }

// Strict tells whether pods are refused that cannot have it.
func (p Policy) Strict() bool { return p == Restricted || p == SingleNode }

// Hint is a place that would do for one resource. Preferred: it spans no more nodes than it must.
type Hint struct {
	Nodes     Nodes
	Preferred bool
}

// String is nodes and preference.
func (h Hint) String() string {
	if h.Preferred {
		return h.Nodes.String() + " preferred"
	}
	return h.Nodes.String()
}

// Supply is what there is of one resource.
type Supply struct {
	Need int
	// All is how many are near to some of the nodes, whoever has them; Free how many of them can be taken now,
	// below 0 where these nodes must not be.
	All, Free func(Nodes) int
}

// Hints are the places where enough of a resource is free, those with the fewest nodes that could ever hold
// it being preferred; none: it cannot be had.
func Hints(nodes Nodes, s Supply) []Hint {
	least := nodes.Count()
	var hints []Hint
	for n := range nodes.Subsets() {
		if n.Count() < least && s.All(n) >= s.Need {
			least = n.Count()
		}
		if s.Free(n) >= s.Need {
			hints = append(hints, Hint{Nodes: n})
		}
	}
	for i := range hints {
		hints[i].Preferred = hints[i].Nodes.Count() == least
	}
	return hints
}

// Anywhere are the hints of a resource that does not care.
func Anywhere() []Hint { return []Hint{{Preferred: true}} }

// Distances between NUMA nodes as the firmware tells them (ACPI SLIT: 10 is the node itself).
type Distances map[[2]int]int

// within is the sum of the distances between all nodes of a set.
func (d Distances) within(n Nodes) (sum int) {
	if len(d) == 0 {
		return 0
	}
	for a := range 64 {
		for b := range 64 {
			if n.Has(a) && n.Has(b) {
				sum += d[[2]int{a, b}]
			}
		}
	}
	return sum
}

// Merge finds the place that suits all, and whether the policy takes the pod there. lists has the hints of
// each resource. With distances, of places with as many nodes that is best whose nodes are near to one another.
func Merge(p Policy, nodes Nodes, near Distances, lists [][]Hint) (Hint, bool) {
	if !p.On() {
		return Hint{Preferred: true}, true
	}
	if p == SingleNode {
		lists = single(lists)
	}
	best := Hint{}
	widest := widestNeed(lists)
	for m := range merged(lists) {
		h := Hint{Nodes: m.nodes, Preferred: m.good}
		if !m.placed {
			h.Nodes = nodes
		}
		if h.Nodes != 0 && (best.Nodes == 0 || near.before(h, best, widest)) {
			best = h
		}
	}
	if best.Nodes == nodes {
		best.Nodes = 0
	}
	return best, best.Preferred || p == BestEffort
}

// single leaves the hints that are one node, or do not care.
func single(lists [][]Hint) [][]Hint {
	out := make([][]Hint, len(lists))
	for i, list := range lists {
		for _, h := range list {
			if h.Preferred && h.Nodes.Count() <= 1 {
				out[i] = append(out[i], h)
			}
		}
	}
	return out
}

// place is where some of the hints, one of each list so far, meet. good: all of them are preferred, and they
// name the same nodes.
type place struct {
	nodes        Nodes
	placed, good bool
}

// merged are the places that come of all ways to take one hint of each list. They are few, where the ways
// are many: at most four for each set of nodes.
func merged(lists [][]Hint) map[place]bool {
	at := map[place]bool{{good: true}: true}
	for _, list := range lists {
		next := map[place]bool{}
		for p := range at {
			for _, h := range list {
				next[p.and(h)] = true
			}
		}
		at = next
	}
	return at
}

func (p place) and(h Hint) place {
	switch {
	case h.Nodes == 0:
	case !p.placed:
		p.nodes, p.placed = h.Nodes, true
	default:
		p.good = p.good && p.nodes == h.Nodes
		p.nodes &= h.Nodes
	}
	p.good = p.good && h.Preferred
	return p
}

// widestNeed is how many nodes the resource needs that needs most of them.
func widestNeed(lists [][]Hint) (widest int) {
	for _, list := range lists {
		least := 0
		for _, h := range list {
			if n := h.Nodes.Count(); n > 0 && (least == 0 || n < least) {
				least = n
			}
		}
		widest = max(widest, least)
	}
	return widest
}

// before tells whether a is better: preferred, and then as narrow as can be. Of places that nobody prefers
// that is best which spans as many nodes as the resource needs that needs most, or nearly as many.
func (d Distances) before(a, b Hint, widest int) bool {
	if a.Preferred != b.Preferred {
		return a.Preferred
	}
	rank := func(h Hint) int {
		n := h.Nodes.Count()
		if h.Preferred || n > widest {
			return widest + n
		}
		return widest - n
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(d.within(a.Nodes), d.within(b.Nodes)), cmp.Compare(a.Nodes, b.Nodes)) < 0
}
