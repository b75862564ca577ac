package cpuplan

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"nodelet/agent/exclusive/alignplan"
)

// machine has sockets of one NUMA node each, whose CPUs are numbered as usual: all first threads, then all second ones.
func machine(sockets, cores, threads int) (t Topology) {
	for th := range threads {
		for s := range sockets {
			for c := range cores {
				core := s*cores + c
				t = append(t, CPU{ID: th*sockets*cores + core, Core: core, Socket: s, NUMA: s})
			}
		}
	}
	return t
}

func set(t *testing.T, text string) Set {
	t.Helper()
	s, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTake(t *testing.T) {
	big := machine(2, 4, 2) // cores 0-3 on socket 0 with threads 8-11, cores 4-7 on socket 1 with threads 12-15
	for _, c := range []struct {
		name, free, want string
		n                int
	}{
		{"a core", "0-15", "0,8", 2},
		{"a socket", "0-15", "0-3,8-11", 8},
		{"a socket and a core", "0-15", "0-4,8-12", 10},
		{"all", "0-15", "0-15", 16},
		{"one of a broken core", "1-15", "8", 1},
		{"whole core before broken one", "1-15", "1,9", 2},
		{"one node rather than two", "3,11,4-7,12-15", "4-6,12-14", 6},
		{"threads where no core is whole", "0-3,12-15", "0-1", 2},
	} {
		got, ok := (Options{}).Take(big, set(t, c.free), c.n)
		if !ok || got.String() != c.want {
			t.Errorf("%s: %d of %s: %s, want %s", c.name, c.n, c.free, got, c.want)
		}
	}
	if _, ok := (Options{}).Take(big, set(t, "0-2"), 4); ok {
		t.Error("4 of 3")
	}
}

func TestTakeLaws(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		m := machine(rapid.IntRange(1, 3).Draw(r, "sockets"), rapid.IntRange(1, 4).Draw(r, "cores"), rapid.IntRange(1, 2).Draw(r, "threads"))
		free := m.All()
		var all []Set
		for len(free) > 0 {
			n := rapid.IntRange(1, len(m)).Draw(r, "n")
			got, ok := (Options{}).Take(m, free, n)
			if ok != (n <= len(free)) {
				r.Fatalf("%d of %s: %t", n, free, ok)
			}
			if !ok {
				break
			}
			if len(got) != n || len(got.Without(free)) > 0 {
				r.Fatalf("%d of %s: %s", n, free, got)
			}
			again, _ := (Options{}).Take(m, free, n)
			if again.String() != got.String() {
				r.Fatalf("once %s, once %s", got, again)
			}
			// A request of whole cores breaks none where there are enough whole ones.
			per := m.PerCore()
			if whole := wholeCores(m, free); n%per == 0 && whole*per >= n && wholeCores(m, got)*per != n {
				r.Fatalf("%d of %s with %d whole cores: %s", n, free, whole, got)
			}
			all = append(all, got)
			if rapid.Bool().Draw(r, "give back") {
				k := rapid.IntRange(0, len(all)-1).Draw(r, "which")
				free = free.Without(got).With(all[k])
				all = append(all[:k], all[k+1:]...)
			} else {
				free = free.Without(got)
			}
		}
	})
}

func wholeCores(m Topology, s Set) (n int) {
	for _, g := range groups(m, func(c CPU) int { return c.Core }) {
		if len(g.And(s)) == len(g) {
			n++
		}
	}
	return n
}

func TestReserved(t *testing.T) {
	m := machine(1, 4, 2)
	for _, c := range []struct {
		named string
		milli int64
		want  string
	}{{"", 500, "0"}, {"", 2000, "0,4"}, {"1,5", 0, "1,5"}, {"9", 0, ""}, {"", 0, ""}, {"", 8000, ""}} {
		got, err := Reserved(m, set(t, c.named), c.milli)
		if got.String() != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%+v: %s %v", c, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "0", "0-3,6", "3-1", "a", "1,,2", "0-99999999999", "-1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Parse(s.String())
		if err != nil || again.String() != s.String() {
			t.Errorf("%q: %s, then %s, %v", text, s, again, err)
		}
	})
}

// blades has sockets of two NUMA nodes each, of two caches each, of two cores each, of two threads each.
func blades(sockets int) (t Topology) {
	for th := range 2 {
		for core := range sockets * 8 {
			t = append(t, CPU{ID: th*sockets*8 + core, Core: core, Cache: core / 2, NUMA: core / 4, Socket: core / 8})
		}
	}
	return t
}

func TestOptions(t *testing.T) {
	big := blades(2) // NUMA 0 is 0-3,16-19; 1 is 4-7,20-23; 2 is 8-11,24-27; 3 is 12-15,28-31
	for _, c := range []struct {
		name, free, want string
		o                Options
		n                int
	}{
		{"spread: one node holds it", "0-31", "0-2,16-18", Options{SpreadNodes: true}, 6},
		{"spread: two nodes, evenly", "0-31", "0-2,4-6,16-17,20-21", Options{SpreadNodes: true}, 10},
		{"spread: whole cores", "0-31", "0-2,4-6,16-18,20-22", Options{SpreadNodes: true, WholeCores: true}, 12},
		{"spread: those that have most", "0,16,4-7,20-23,8-11,24-27", "4-6,8-10,20-22,24-26", Options{SpreadNodes: true}, 12},
		{"spread: not possible", "0,4,8-11,24-27", "0,4,8-11,24-27", Options{SpreadNodes: true}, 10},
		{"cores apart", "0-31", "0-3", Options{SpreadCores: true}, 4},
		{"cores apart, as far as it goes", "0-31", "0-3,16-17", Options{SpreadCores: true}, 6},
		{"caches: a whole one", "1-31", "2-3,18-19", Options{WholeCaches: true}, 4},
		{"caches: part of the fullest", "0-31", "0,16", Options{WholeCaches: true}, 2},
		{"caches: the one that has just enough", "0-3,16-19,6,21,22", "6,22", Options{WholeCaches: true}, 2},
		{"caches: none has enough", "0,2,4,6", "0,2,4", Options{WholeCaches: true}, 3},
	} {
		got, ok := c.o.Take(big, set(t, c.free), c.n)
		if !ok || got.String() != c.want {
			t.Errorf("%s: %d of %s: %s, want %s", c.name, c.n, c.free, got, c.want)
		}
	}
}

func TestOptionsCheck(t *testing.T) {
	for _, o := range []Options{{SpreadCores: true, WholeCores: true}, {SpreadCores: true, SpreadNodes: true}, {WholeCaches: true, SpreadCores: true}, {WholeCaches: true, SpreadNodes: true}} {
		if o.Check() == nil {
			t.Errorf("%+v can be had together", o)
		}
	}
	if err := (Options{WholeCores: true, SpreadNodes: true, Strict: true, Sockets: true}).Check(); err != nil {
		t.Error(err)
	}
}

// Whatever the options, n of the free CPUs are taken, each once, and the same again for the same question.
func TestOptionsLaws(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		m := blades(rapid.IntRange(1, 2).Draw(r, "sockets"))
		o := Options{WholeCores: rapid.Bool().Draw(r, "cores"), SpreadNodes: rapid.Bool().Draw(r, "nodes"), SpreadCores: rapid.Bool().Draw(r, "apart"), WholeCaches: rapid.Bool().Draw(r, "caches")}
		var free Set
		for _, id := range m.All() {
			if rapid.IntRange(0, 3).Draw(r, "free") > 0 {
				free = append(free, id)
			}
		}
		n := rapid.IntRange(1, len(m)).Draw(r, "n")
		got, ok := o.Take(m, free, n)
		if ok != (n <= len(free)) {
			r.Fatalf("%d of %s: %t", n, free, ok)
		}
		if !ok {
			return
		}
		again, _ := o.Take(m, free, n)
		if len(got) != n || len(got.Without(free)) > 0 || again.String() != got.String() {
			r.Fatalf("%+v: %d of %s: %s, then %s", o, n, free, got, again)
		}
		for _, h := range o.Hints(m, free, nil, n) {
			if here := m.At(h.Nodes).And(free); len(here) < n {
				r.Fatalf("%v has %d of %d", h, len(here), n)
			}
		}
	})
}

func TestHints(t *testing.T) {
	m := blades(1)
	for _, c := range []struct {
		name, free, lent, want string
		o                      Options
		n                      int
	}{
		{"any node", "0-15", "", "[0 preferred 1 preferred 0,1]", Options{}, 4},
		{"one is full", "0,4-7", "", "[1 preferred 0,1]", Options{}, 4},
		{"both are needed", "0-15", "", "[0,1 preferred]", Options{}, 12},
		{"where those before it were", "4-7", "0-1", "[0,1]", Options{}, 4},
		{"a socket is near enough", "0-1,4-5", "", "[0,1 preferred]", Options{Sockets: true}, 4},
		{"too many", "0-3", "", "[]", Options{}, 5},
	} {
		if got := fmt.Sprint(c.o.Hints(m, set(t, c.free), set(t, c.lent), c.n)); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	if got := (Options{}).Near(m, alignplan.Of(1)).String(); got != "4-7,12-15" {
		t.Errorf("near node 1: %s", got)
	}
	if got := (Options{Sockets: true}).Near(m, alignplan.Of(1)).String(); got != "0-15" {
		t.Errorf("near node 1, by socket: %s", got)
	}
}
