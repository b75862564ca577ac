package cpuplan

import (
	"testing"

	"pgregory.net/rapid"
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
		got, ok := Take(big, set(t, c.free), c.n)
		if !ok || got.String() != c.want {
			t.Errorf("%s: %d of %s: %s, want %s", c.name, c.n, c.free, got, c.want)
		}
	}
	if _, ok := Take(big, set(t, "0-2"), 4); ok {
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
			got, ok := Take(m, free, n)
			if ok != (n <= len(free)) {
				r.Fatalf("%d of %s: %t", n, free, ok)
			}
			if !ok {
				break
			}
			if len(got) != n || len(got.Without(free)) > 0 {
				r.Fatalf("%d of %s: %s", n, free, got)
			}
			again, _ := Take(m, free, n)
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
