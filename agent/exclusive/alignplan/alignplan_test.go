package alignplan

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func hint(preferred bool, ids ...int) Hint { return Hint{Of(ids...), preferred} }

func TestMerge(t *testing.T) {
	two, four := Of(0, 1), Of(0, 1, 2, 3)
	either := []Hint{hint(true, 0), hint(true, 1), hint(false, 0, 1)}
	for _, c := range []struct {
		name  string
		p     Policy
		nodes Nodes
		lists [][]Hint
		want  Hint
		takes bool
	}{
		{"nobody asks", Restricted, two, nil, Hint{Preferred: true}, true},
		{"no policy", None, two, [][]Hint{{}}, Hint{Preferred: true}, true},
		{"nobody cares", SingleNode, two, [][]Hint{Anywhere(), Anywhere()}, Hint{Preferred: true}, true},
		{"one of two equals", Restricted, two, [][]Hint{either}, hint(true, 0), true},
		{"the device decides", SingleNode, two, [][]Hint{either, {hint(true, 1)}}, hint(true, 1), true},
		{"one does not care", SingleNode, two, [][]Hint{Anywhere(), {hint(true, 1)}}, hint(true, 1), true},
		{"apart: best effort takes it", BestEffort, two, [][]Hint{{hint(true, 0), hint(false, 0, 1)}, {hint(true, 1)}}, hint(false, 1), true},
		{"apart: restricted refuses", Restricted, two, [][]Hint{{hint(true, 0), hint(false, 0, 1)}, {hint(true, 1)}}, hint(false, 1), false},
		{"nothing meets", BestEffort, two, [][]Hint{{hint(true, 0)}, {hint(true, 1)}}, Hint{}, true},
		{"nothing meets, strictly", SingleNode, two, [][]Hint{{hint(true, 0)}, {hint(true, 1)}}, Hint{}, false},
		{"more than a node: restricted", Restricted, four, [][]Hint{{hint(true, 1, 2), hint(true, 0, 3)}}, hint(true, 1, 2), true},
		{"more than a node: single", SingleNode, four, [][]Hint{{hint(true, 1, 2)}}, Hint{}, false},
		{"all nodes are anywhere", Restricted, two, [][]Hint{{hint(true, 0, 1)}}, Hint{Preferred: true}, true},
		{"cannot be had", Restricted, two, [][]Hint{{}}, Hint{}, false},
		{"as wide as the widest", BestEffort, four, [][]Hint{{hint(false, 0), hint(false, 0, 1), hint(false, 0, 1, 2)}, {hint(false, 0, 1), hint(false, 0, 1, 2)}}, hint(false, 0, 1), true},
	} {
		got, takes := Merge(c.p, c.nodes, nil, c.lists)
		if got != c.want || takes != c.takes {
			t.Errorf("%s: %v %t, want %v %t", c.name, got, takes, c.want, c.takes)
		}
	}
}

// Of places as narrow as each other the one is taken whose nodes are near to one another; a narrower one goes before.
func TestMergeClosest(t *testing.T) {
	near := Distances{}
	for a := range 4 {
		for b := range 4 {
			near[[2]int{a, b}] = 20
			if a == b {
				near[[2]int{a, b}] = 10
			} else if a+b == 3 { // 0 and 3, 1 and 2 are neighbours; 0 and 3 the nearer ones
				near[[2]int{a, b}] = 12 + min(a, b)
			}
		}
	}
	four := Of(0, 1, 2, 3)
	for _, c := range []struct {
		name string
		near Distances
		list []Hint
		want Hint
	}{
		{"by number", nil, []Hint{hint(true, 0, 1), hint(true, 1, 2), hint(true, 0, 3)}, hint(true, 0, 1)},
		{"the nearest", near, []Hint{hint(true, 0, 1), hint(true, 1, 2), hint(true, 0, 3)}, hint(true, 0, 3)},
		{"nobody prefers", near, []Hint{hint(false, 0, 1), hint(false, 1, 2)}, hint(false, 1, 2)},
		{"preferred first", near, []Hint{hint(true, 0, 1), hint(false, 0, 3)}, hint(true, 0, 1)},
		{"narrow first", near, []Hint{hint(true, 2), hint(true, 0, 3)}, hint(true, 2)},
		{"as near", near, []Hint{hint(true, 1, 3), hint(true, 0, 2)}, hint(true, 0, 2)},
	} {
		if got, _ := Merge(BestEffort, four, c.near, [][]Hint{c.list}); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestHints(t *testing.T) {
	has := []int{4, 4, 4} // on each node
	free := []int{1, 3, 4}
	sum := func(of []int) func(Nodes) int {
		return func(n Nodes) (all int) {
			for id, k := range of {
				if n.Has(id) {
					all += k
				}
			}
			return all
		}
	}
	got := Hints(Of(0, 1, 2), Supply{Need: 4, All: sum(has), Free: sum(free)})
	want := []Hint{hint(false, 0, 1), hint(true, 2), hint(false, 0, 2), hint(false, 1, 2), hint(false, 0, 1, 2)}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := Hints(Of(0, 1, 2), Supply{Need: 9, All: sum(has), Free: sum(free)}); got != nil {
		t.Errorf("9 of 8: %v", got)
	}
}

// Merge against the plain way: every combination of hints, each judged by the rules of the policies.
func TestMergeLaws(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		nodes := Of(0, 1, 2)
		one := rapid.Custom(func(r *rapid.T) Hint {
			return Hint{Nodes(rapid.IntRange(0, 7).Draw(r, "nodes")), rapid.Bool().Draw(r, "preferred")}
		})
		lists := rapid.SliceOfN(rapid.SliceOfN(one, 0, 4), 0, 3).Draw(r, "lists")
		got, _ := Merge(BestEffort, nodes, nil, lists)
		taken, takes := Merge(Restricted, nodes, nil, lists)
		if taken != got || takes != got.Preferred {
			r.Fatalf("best effort %v, restricted %v %t", got, taken, takes)
		}
		shuffled := slices.Clone(lists)
		slices.Reverse(shuffled)
		if again, _ := Merge(BestEffort, nodes, nil, shuffled); again != got {
			r.Fatalf("%v, in another order %v", got, again)
		}
		preferred := false
		var walk func(i int, at []Hint)
		walk = func(i int, at []Hint) {
			if i < len(lists) {
				for _, h := range lists[i] {
					walk(i+1, append(slices.Clone(at), h))
				}
				return
			}
			all, good := nodes, true
			var first Nodes
			for _, h := range at {
				good = good && h.Preferred
				if h.Nodes == 0 {
					continue
				}
				if first == 0 {
					first = h.Nodes
				}
				good, all = good && h.Nodes == first, all&h.Nodes
			}
			preferred = preferred || good && all != 0
		}
		walk(0, nil)
		if got.Preferred != preferred {
			r.Fatalf("%v of %v, want preferred %t", got, lists, preferred)
		}
	})
}
