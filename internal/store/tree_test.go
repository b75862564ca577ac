package store

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestTreeLaw: a tree holds what a map holds, in order, knows what is newer than
// a revision, and versions from before a change stay as they were.
func TestTreeLaw(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type version struct {
			tree tree[int, int]
			want map[string]Revision
		}
		now := version{newTree[int, int](), map[string]Revision{}}
		var history []version
		for r := Revision(1); r <= Revision(rapid.IntRange(1, 30).Draw(t, "commits")); r++ {
			history = append(history, version{now.tree, maps.Clone(now.want)})
			for range rapid.IntRange(1, 8).Draw(t, "changes of one commit") {
				text := fmt.Sprint("k", rapid.IntRange(0, 20).Draw(t, "key"))
				if rapid.IntRange(0, 2).Draw(t, "kind") > 0 {
					now.tree.set(r, node[int, int]{text: text, rev: r})
					now.want[text] = r
				} else if _, there := now.want[text]; (now.tree.delete(r, text) != nil) != there {
					t.Fatalf("deleted %s: there %t", text, there)
				} else {
					delete(now.want, text)
				}
			}
			for _, v := range append(history, now) {
				checkTree(t, v.tree, v.want, r)
			}
		}
	})
}

func checkTree(t *rapid.T, tr tree[int, int], want map[string]Revision, last Revision) {
	list := func(walk func(func(*node[int, int]) bool) bool) (out []string) {
		walk(func(n *node[int, int]) bool {
			if n.rev != want[n.text] || tr.get(n.text) != n {
				t.Fatalf("%s has revision %d, want %d", n.text, n.rev, want[n.text])
			}
			out = append(out, n.text)
			return true
		})
		return out
	}
	after := func(keep func(string) bool) []string {
		return slices.DeleteFunc(slices.Sorted(maps.Keys(want)), func(s string) bool { return !keep(s) })
	}
	if tr.size != len(want) {
		t.Fatalf("size %d of %d", tr.size, len(want))
	}
	for _, from := range []string{"", "k1", "k12", "z"} {
		got := list(func(yield func(*node[int, int]) bool) bool { return tr.all(from, yield) })
		if !slices.Equal(got, after(func(s string) bool { return s >= from })) {
			t.Fatalf("from %q: %q of %v", from, got, want)
		}
	}
	for r := range last + 1 {
		got := list(func(yield func(*node[int, int]) bool) bool { return tr.since(r, yield) })
		if !slices.Equal(got, after(func(s string) bool { return want[s] > r })) {
			t.Fatalf("since %d: %q of %v", r, got, want)
		}
	}
}

// TestTreeStaysShallow: names that come in their order make no list of it.
func TestTreeStaysShallow(t *testing.T) {
	tr := newTree[int, int]()
	for i := range 10_000 {
		tr.set(Revision(i), node[int, int]{text: fmt.Sprintf("%08d", i)})
	}
	if d := depth(tr.root); d > 60 {
		t.Errorf("%d deep with 10,000 entries", d)
	}
}

func depth(n *node[int, int]) int {
	if n == nil {
		return 0
	}
	return 1 + max(depth(n.left), depth(n.right))
}

// BenchmarkMemory10k reports what a table takes beside its values.
func BenchmarkMemory10k(b *testing.B) {
	for b.Loop() {
		before := heap()
		s, w := New()
		for i := range 10_000 {
			v := service(fmt.Sprint("svc-", i), "1")
			w.Services.Set(v.Key, nil)
		}
		b.ReportMetric(float64(heap()-before)/10_000, "B/entry")
		runtime.KeepAlive(s)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
