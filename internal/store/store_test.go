package store

import (
	"fmt"
	"maps"
	"reflect"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	"nodelet/internal/model"
)

func service(name, rv string) *model.Service {
	return &model.Service{Key: model.Key{Namespace: "ns", Name: name}, ResourceVersion: rv}
}

func TestCommitMakesOneRevisionAndWakesReaders(t *testing.T) {
	s, w := New()
	before := s.Snapshot()
	select {
	case <-before.Changed():
		t.Fatal("changed before any commit")
	default:
	}
	a := service("a", "1")
	if rev := w.Services.Set(a.Key, a); rev != before.Revision+1 {
		t.Fatalf("revision %d after one commit on %d", rev, before.Revision)
	}
	<-before.Changed()
	if _, ok := before.Services.Get(a.Key); ok {
		t.Fatal("an old snapshot changed")
	}
	if got, ok := s.Snapshot().Services.Get(a.Key); !ok || got != a {
		t.Fatalf("got %v %t", got, ok)
	}
}

func TestSameValueIsNoChange(t *testing.T) {
	for name, newStore := range map[string]func() (*Store, *Writers){"plain": New, "packed": NewPacked} {
		t.Run(name, func(t *testing.T) { checkSameValue(t, newStore) })
	}
}

func checkSameValue(t *testing.T, newStore func() (*Store, *Writers)) {
	s, w := newStore()
	a := service("a", "1")
	w.Services.Set(a.Key, a)
	snap := s.Snapshot()
	w.Services.Set(a.Key, service("a", "1"))
	w.Services.Delete(model.Key{Namespace: "ns", Name: "other"})
	if s.Snapshot() != snap {
		t.Fatal("a commit that changes nothing made a snapshot")
	}
	w.Services.Set(a.Key, service("a", "2"))
	if s.Snapshot().Revision != snap.Revision+1 {
		t.Fatal("a new resource version made no revision")
	}
}

func TestReplaceMarksSynced(t *testing.T) {
	s, w := New()
	if s.Snapshot().Services.Synced() {
		t.Fatal("synced at start")
	}
	w.Services.Replace(nil)
	if !s.Snapshot().Services.Synced() {
		t.Fatal("not synced after an empty full list")
	}
}

// Before the first full list nobody is missing but who was there and was deleted.
func TestMissing(t *testing.T) {
	s, w := New()
	a, b := service("a", "1"), service("b", "1")
	w.Services.Set(a.Key, a)
	if got := s.Snapshot().Services; got.Missing(a.Key) || got.Missing(b.Key) {
		t.Fatal("missing before the first list")
	}
	w.Services.Delete(a.Key)
	if got := s.Snapshot().Services; !got.Missing(a.Key) || got.Missing(b.Key) {
		t.Fatal("deleted is missing, unheard of is not")
	}
	w.Services.Replace(nil)
	if !s.Snapshot().Services.Missing(b.Key) {
		t.Fatal("not missing after an empty list")
	}
}

func TestAppliedHasNoRevisionOfItsOwn(t *testing.T) {
	s, w := New()
	a := service("a", "1")
	rev := w.Services.Set(a.Key, a)
	snap := s.Snapshot()
	s.SetApplied(Proxy, rev)
	<-snap.Changed()
	next := s.Snapshot()
	if next.Revision != rev || next.Applied[Proxy] != rev || snap.Applied[Proxy] != 0 {
		t.Fatalf("revision %d applied %v, before %v", next.Revision, next.Applied, snap.Applied)
	}
	s.SetApplied(Proxy, rev-1)
	if s.Snapshot() != next {
		t.Fatal("an older applied revision was noted")
	}
}

// The law of Since: applying the deltas to any older state gives the newer one,
// whether values are kept as they are or packed.
func TestSinceLaw(t *testing.T) {
	t.Run("plain", func(t *testing.T) { checkSince(t, New, func(a, b *model.Service) bool { return a == b }) })
	t.Run("packed", func(t *testing.T) {
		checkSince(t, NewPacked, func(a, b *model.Service) bool { return a == b || a != nil && b != nil && reflect.DeepEqual(a, b) })
	})
}

func checkSince(t *testing.T, newStore func() (*Store, *Writers), same func(a, b *model.Service) bool) {
	rapid.Check(t, func(t *rapid.T) {
		s, w := newStore()
		type version struct {
			snap *Snapshot
			want map[model.Key]*model.Service
		}
		want := map[model.Key]*model.Service{}
		history := []version{{s.Snapshot(), maps.Clone(want)}}
		rv := 0
		name := rapid.IntRange(0, 9)
		t.Repeat(map[string]func(*rapid.T){
			"set": func(t *rapid.T) {
				rv++
				v := service(fmt.Sprint("s", name.Draw(t, "name")), fmt.Sprint(rv))
				w.Services.Set(v.Key, v)
				want[v.Key] = v
			},
			"delete": func(t *rapid.T) {
				k := service(fmt.Sprint("s", name.Draw(t, "name")), "").Key
				w.Services.Delete(k)
				delete(want, k)
			},
			"replace": func(t *rapid.T) {
				want = map[model.Key]*model.Service{}
				for _, n := range rapid.SliceOfNDistinct(name, 0, 5, rapid.ID).Draw(t, "names") {
					rv++
					v := service(fmt.Sprint("s", n), fmt.Sprint(rv))
					want[v.Key] = v
				}
				w.Services.Replace(maps.Clone(want))
			},
			"": func(t *rapid.T) {
				now := s.Snapshot()
				history = append(history, version{now, maps.Clone(want)})
				from := history[rapid.IntRange(0, len(history)-1).Draw(t, "from")]
				got := maps.Clone(from.want)
				for d := range now.Services.Since(from.snap.Services) {
					if old, ok := from.want[d.Key]; ok != d.Was || !same(old, d.Old) {
						t.Fatalf("delta %+v, but the old value was %v %t", d, old, ok)
					}
					if d.Is {
						got[d.Key] = d.New
					} else {
						delete(got, d.Key)
					}
				}
				if !maps.EqualFunc(got, want, same) {
					t.Fatalf("since %d: got %v, want %v", from.snap.Revision, got, want)
				}
			},
		})
	})
}

func TestSinceSurvivesForgottenTombstones(t *testing.T) {
	s, w := New()
	all := map[model.Key]*model.Service{}
	for i := range 2*tombstoneLimit + 10 {
		v := service(fmt.Sprint(i), "1")
		all[v.Key] = v
	}
	keep := service("keep", "1")
	all[keep.Key] = keep
	w.Services.Replace(all)
	old := s.Snapshot()
	w.Services.Replace(map[model.Key]*model.Service{keep.Key: keep})
	now := s.Snapshot()
	if n := now.Services.gone.size; n != tombstoneLimit {
		t.Fatalf("%d tombstones remembered, limit %d", n, tombstoneLimit)
	}
	deleted := map[model.Key]bool{}
	for d := range now.Services.Since(old.Services) {
		if d.Is || deleted[d.Key] {
			t.Fatalf("unexpected delta %+v", d)
		}
		deleted[d.Key] = true
	}
	if len(deleted) != len(all)-1 {
		t.Fatalf("%d deletions seen of %d", len(deleted), len(all)-1)
	}
}

func TestConcurrentWritersAndReaders(t *testing.T) {
	s, w := New()
	const n = 200
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range n {
			v := service(fmt.Sprint(i), "1")
			w.Services.Set(v.Key, v)
		}
	})
	wg.Go(func() {
		for i := range n {
			w.Nodes.Set(model.Key{Name: fmt.Sprint(i)}, &model.Node{Name: fmt.Sprint(i)})
		}
	})
	for snap := s.Snapshot(); snap.Services.Len()+snap.Nodes.Len() < 2*n; snap = s.Snapshot() {
		if snap.Revision != Revision(1+snap.Services.Len()+snap.Nodes.Len()) {
			t.Fatalf("revision %d with %d services and %d nodes", snap.Revision, snap.Services.Len(), snap.Nodes.Len())
		}
		<-snap.Changed()
	}
	wg.Wait()
}

func BenchmarkSetIn10k(b *testing.B) {
	s, w := New()
	all := map[model.Key]*model.Service{}
	for i := range 10000 {
		v := service(fmt.Sprint(i), "1")
		all[v.Key] = v
	}
	w.Services.Replace(all)
	b.ReportAllocs()
	prev := s.Snapshot()
	i := 0
	for b.Loop() {
		i++
		v := service(fmt.Sprint(i%10000), fmt.Sprint("x", i))
		w.Services.Set(v.Key, v)
		next := s.Snapshot()
		for range next.Services.Since(prev.Services) {
		}
		prev = next
	}
}

// TestZeroTable: a table of the zero Snapshot can be asked like any other, and has nothing.
func TestZeroTable(t *testing.T) {
	var zero Snapshot
	key := model.UID("a")
	if _, ok := zero.Pods.Get(key); ok || zero.Pods.Len() != 0 || zero.Pods.Last() != 0 || zero.Pods.Synced() || zero.Pods.Missing(key) {
		t.Error("the zero table has something")
	}
	for range zero.Pods.All() {
		t.Error("the zero table yields something")
	}
	for range zero.Pods.Since(Table[model.UID, *corev1.Pod]{}) {
		t.Error("something changed from the zero table to itself")
	}
	s, w := New()
	w.Pods.Set(key, &corev1.Pod{})
	snap := s.Snapshot()
	for d := range zero.Pods.Since(snap.Pods) {
		if !d.Was || d.Is {
			t.Errorf("%+v", d)
		}
	}
	seen := 0
	for d := range snap.Pods.Since(zero.Pods) {
		if seen++; d.Was || !d.Is {
			t.Errorf("%+v", d)
		}
	}
	if seen != 1 {
		t.Errorf("%d changes since the zero table", seen)
	}
}
