package reconcile

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"nodelet/internal/model"
	"nodelet/internal/store"
)

func nodeKeys(prev, next *store.Snapshot) iter.Seq[string] {
	return func(yield func(string) bool) {
		var from store.Table[model.Key, *model.Node]
		if prev != nil {
			from = prev.Nodes
		}
		for d := range next.Nodes.Since(from) {
			if !yield(d.Key.Name) {
				return
			}
		}
	}
}

// journal collects what Sync saw, from many goroutines.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, args...))
}

func (j *journal) take() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	l := j.lines
	j.lines = nil
	slices.Sort(l)
	return l
}

func TestKeyedHungKeyDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w := store.New()
		var j journal
		k := &Keyed[string]{
			Name: "test", Store: s, Log: quiet(), Keys: nodeKeys,
			Sync: func(ctx context.Context, key string, snap *store.Snapshot) (time.Duration, error) {
				n, _ := snap.Nodes.Get(model.Key{Name: key})
				j.add("%s %s", key, n.Zone())
				if key == "hung" {
					<-ctx.Done()
				}
				return 0, nil
			},
		}
		run(t, k.Run)
		w.Nodes.Set(model.Key{Name: "hung"}, node("hung", "1"))
		synctest.Wait()
		w.Nodes.Set(model.Key{Name: "a"}, node("a", "1"))
		synctest.Wait()
		w.Nodes.Set(model.Key{Name: "a"}, node("a", "2"))
		synctest.Wait()
		if got, want := j.take(), []string{"a 1", "a 2", "hung 1"}; !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

func TestKeyedManyChangesWhileBusyLeadToOneRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w := store.New()
		var j journal
		gate := make(chan struct{})
		k := &Keyed[string]{
			Name: "test", Store: s, Log: quiet(), Keys: nodeKeys,
			Sync: func(_ context.Context, key string, snap *store.Snapshot) (time.Duration, error) {
				n, _ := snap.Nodes.Get(model.Key{Name: key})
				j.add("%s", n.Zone())
				<-gate
				return 0, nil
			},
		}
		run(t, k.Run)
		for i := range 20 {
			w.Nodes.Set(model.Key{Name: "a"}, node("a", fmt.Sprint(i)))
			synctest.Wait()
		}
		gate <- struct{}{}
		gate <- struct{}{}
		synctest.Wait()
		if got, want := j.take(), []string{"0", "19"}; !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		if len(k.keys) != 0 {
			t.Fatalf("%d idle keys cost something", len(k.keys))
		}
	})
}

func TestKeyedRetriesWithBackoffUntilNewsComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w := store.New()
		var j journal
		start := time.Now()
		k := &Keyed[string]{
			Name: "test", Store: s, Log: quiet(), Keys: nodeKeys, Health: &Health{},
			Backoff: Backoff{Min: 10 * time.Second, Max: time.Minute},
			Sync: func(_ context.Context, key string, snap *store.Snapshot) (time.Duration, error) {
				n, _ := snap.Nodes.Get(model.Key{Name: key})
				j.add("%v %s", time.Since(start), n.Zone())
				if n.Zone() == "bad" {
					return 0, errors.New("bad")
				}
				return 0, nil
			},
		}
		run(t, k.Run)
		w.Nodes.Set(model.Key{Name: "a"}, node("a", "bad"))
		time.Sleep(11 * time.Second) // tried at 0 and 10 s, next would be at 30 s
		w.Nodes.Set(model.Key{Name: "a"}, node("a", "good"))
		time.Sleep(time.Minute)
		if got, want := j.take(), []string{"0s bad", "10s bad", "11s good"}; !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

func TestKeyedHealthIsThatOfAllKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w := store.New()
		k := &Keyed[string]{
			Name: "test", Store: s, Log: quiet(), Keys: nodeKeys, Health: &Health{},
			Ready:   func(n *store.Snapshot) bool { return n.Nodes.Synced() },
			Backoff: Backoff{Min: time.Hour, Max: time.Hour},
			Sync: func(_ context.Context, key string, snap *store.Snapshot) (time.Duration, error) {
				if n, _ := snap.Nodes.Get(model.Key{Name: key}); n.Zone() != "good" {
					return 0, errors.New(n.Zone())
				}
				return 0, nil
			},
		}
		since := time.Now().Format(time.RFC3339)
		check := func(want string) {
			t.Helper()
			synctest.Wait()
			if got := k.Health.Status().String(); got != want {
				t.Errorf("health %q, want %q", got, want)
			}
		}
		set := func(name, zone, want string) {
			t.Helper()
			w.Nodes.Set(model.Key{Name: name}, node(name, zone))
			check(want)
		}
		check("starting")
		run(t, k.Run)
		check("waiting for the API")
		w.Nodes.Replace(map[model.Key]*model.Node{})
		check("ok") // nothing to do is no reason to wait
		set("a", "low", "failing since "+since+": a: low")
		set("b", "good", "failing since "+since+": a: low")
		set("b", "wet", "2 failing since "+since+", one of them b: wet")
		set("b", "good", "failing since "+since+": a: low")
		set("a", "good", "ok")
	})
}

func TestKeyedAgainCallsAfterThatTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w := store.New()
		var j journal
		start := time.Now()
		hints := make(chan string)
		k := &Keyed[string]{
			Name: "test", Store: s, Log: quiet(), Keys: nodeKeys, Hints: hints,
			Sync: func(context.Context, string, *store.Snapshot) (time.Duration, error) {
				j.add("%v", time.Since(start))
				if time.Since(start) < 5*time.Second {
					return 5 * time.Second, nil
				}
				return 0, nil
			},
		}
		run(t, k.Run)
		w.Nodes.Set(model.Key{Name: "a"}, node("a", ""))
		time.Sleep(20 * time.Second)
		hints <- "a"
		synctest.Wait()
		if got, want := j.take(), []string{"0s", "20s", "5s"}; !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

func TestKeyedInterruptCancelsAndRunsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w := store.New()
		var j journal
		k := &Keyed[string]{
			Name: "test", Store: s, Log: quiet(), Keys: nodeKeys,
			Interrupt: func(key string, _, next *store.Snapshot) bool {
				n, _ := next.Nodes.Get(model.Key{Name: key})
				return n.Zone() == "stop"
			},
			Sync: func(ctx context.Context, key string, snap *store.Snapshot) (time.Duration, error) {
				n, _ := snap.Nodes.Get(model.Key{Name: key})
				if n.Zone() != "stop" {
					<-ctx.Done()
				}
				j.add("%s %v", n.Zone(), ctx.Err())
				return 0, ctx.Err()
			},
		}
		run(t, k.Run)
		w.Nodes.Set(model.Key{Name: "a"}, node("a", "long"))
		synctest.Wait()
		w.Nodes.Set(model.Key{Name: "a"}, node("a", "longer"))
		synctest.Wait()
		if got := j.take(); len(got) != 0 {
			t.Fatalf("interrupted without need: %v", got)
		}
		w.Nodes.Set(model.Key{Name: "a"}, node("a", "stop"))
		synctest.Wait()
		if got, want := j.take(), []string{"long context canceled", "stop <nil>"}; !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

func TestKeyedParallelIsABound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w := store.New()
		var mu sync.Mutex
		running, most := 0, 0
		k := &Keyed[string]{
			Name: "test", Store: s, Log: quiet(), Keys: nodeKeys, Parallel: 3,
			Sync: func(context.Context, string, *store.Snapshot) (time.Duration, error) {
				mu.Lock()
				running++
				most = max(most, running)
				mu.Unlock()
				time.Sleep(time.Second)
				mu.Lock()
				running--
				mu.Unlock()
				return 0, nil
			},
		}
		run(t, k.Run)
		for i := range 10 {
			w.Nodes.Set(model.Key{Name: fmt.Sprint(i)}, node(fmt.Sprint(i), ""))
		}
		time.Sleep(10 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		if most != 3 {
			t.Fatalf("%d ran at the same time, want 3", most)
		}
	})
}
