package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"nodelet/internal/model"
	"nodelet/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func node(name, zone string) *model.Node {
	return &model.Node{Name: name, Labels: map[string]string{"topology.kubernetes.io/zone": zone}}
}

// run starts f in a bubble and gives a function that ends it and waits.
func run(t *testing.T, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestLoopPrevAdvancesOnlyOnSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w := store.New()
		var fail atomic.Bool
		fail.Store(true)
		var calls []string
		l := &Loop{
			Name: "test", Store: s, Log: quiet(), Backoff: Backoff{Min: time.Second, Max: 4 * time.Second},
			Health: &Health{},
			Sync: func(_ context.Context, prev, next *store.Snapshot) error {
				from := store.Revision(0)
				if prev != nil {
					from = prev.Revision
				}
				calls = append(calls, fmt.Sprintf("%d-%d", from, next.Revision))
				if fail.Load() {
					return errors.New("no")
				}
				return nil
			},
		}
		run(t, l.Run)
		synctest.Wait()
		w.Nodes.Set(model.Key{Name: "a"}, node("a", "")) // revision 2, comes while the back-off runs
		time.Sleep(time.Second)
		synctest.Wait()
		if l.Health.Status().FailingSince.IsZero() {
			t.Error("a failing loop reports no failure")
		}
		fail.Store(false)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		w.Nodes.Set(model.Key{Name: "b"}, node("b", ""))
		synctest.Wait()
		if want := []string{"0-1", "0-2", "0-2", "2-3"}; !slices.Equal(calls, want) {
			t.Errorf("calls %v, want %v", calls, want)
		}
		if st := l.Health.Status(); st.String() != "ok" {
			t.Errorf("health %q", st)
		}
	})
}

func TestLoopWaitsForReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w := store.New()
		var seen []int
		l := &Loop{
			Name: "test", Store: s, Log: quiet(), Health: &Health{},
			Ready: func(n *store.Snapshot) bool { return n.Nodes.Synced() },
			Sync: func(_ context.Context, _, next *store.Snapshot) error {
				seen = append(seen, next.Nodes.Len())
				return nil
			},
		}
		run(t, l.Run)
		w.Nodes.Set(model.Key{Name: "a"}, node("a", ""))
		synctest.Wait()
		if len(seen) != 0 || !l.Health.Status().Waiting {
			t.Fatalf("ran before the table was synced: %v", seen)
		}
		w.Nodes.Replace(map[model.Key]*model.Node{{Name: "a"}: node("a", ""), {Name: "b"}: node("b", "")})
		synctest.Wait()
		if !slices.Equal(seen, []int{2}) {
			t.Fatalf("seen %v", seen)
		}
	})
}

func TestLoopSkipsIrrelevantButReportsRevision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w := store.New()
		syncs := 0
		l := &Loop{
			Name: "test", Store: s, Log: quiet(),
			Relevant: func(prev, next *store.Snapshot) bool { return prev.Services.Last() != next.Services.Last() },
			Sync:     func(context.Context, *store.Snapshot, *store.Snapshot) error { syncs++; return nil },
			Done:     func(r store.Revision) { s.SetApplied(store.Proxy, r) },
		}
		run(t, l.Run)
		synctest.Wait()
		rev := w.Nodes.Set(model.Key{Name: "a"}, node("a", ""))
		synctest.Wait()
		if syncs != 1 || s.Snapshot().Applied[store.Proxy] != rev {
			t.Fatalf("%d syncs, applied %d, want 1 and %d", syncs, s.Snapshot().Applied[store.Proxy], rev)
		}
	})
}

func TestLoopPauseCoalescesAndResyncStartsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w := store.New()
		type call struct {
			at    time.Duration
			fresh bool
		}
		var calls []call
		start := time.Now()
		l := &Loop{
			Name: "test", Store: s, Log: quiet(), Pause: 100 * time.Millisecond, Resync: time.Minute,
			Sync: func(_ context.Context, prev, _ *store.Snapshot) error {
				calls = append(calls, call{time.Since(start), prev == nil})
				return nil
			},
		}
		run(t, l.Run)
		synctest.Wait()
		for i := range 50 {
			w.Nodes.Set(model.Key{Name: "a"}, node("a", fmt.Sprint(i)))
		}
		time.Sleep(61 * time.Second)
		synctest.Wait()
		want := []call{{0, true}, {100 * time.Millisecond, false}, {time.Minute, true}}
		if !slices.Equal(calls, want) {
			t.Fatalf("calls %v, want %v", calls, want)
		}
	})
}

// TestLoopRests: with changes all the time a slow Sync runs for its share of the time, and a first change
// waits for nothing.
func TestLoopRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w := store.New()
		var began []time.Duration
		start := time.Now()
		l := &Loop{
			Name: "test", Store: s, Log: quiet(), Rest: 1.5,
			Sync: func(context.Context, *store.Snapshot, *store.Snapshot) error {
				began = append(began, time.Since(start))
				time.Sleep(200 * time.Millisecond)
				return nil
			},
		}
		run(t, l.Run)
		for i := range 140 { // until 1.4 s
			time.Sleep(10 * time.Millisecond)
			w.Nodes.Set(model.Key{Name: "a"}, node("a", fmt.Sprint(i)))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		// All at once, then each after 200 ms of work and 300 of rest.
		want := []time.Duration{0, 200 * time.Millisecond, 700 * time.Millisecond, 1200 * time.Millisecond, 1700 * time.Millisecond}
		if !slices.Equal(began, want) {
			t.Fatalf("began at %v, want %v", began, want)
		}
	})
}

func TestBackoff(t *testing.T) {
	b := Backoff{Min: time.Second, Max: 5 * time.Second}
	var got []time.Duration
	for n := 1; n <= 5; n++ {
		got = append(got, b.After(n)/time.Second)
	}
	if want := []time.Duration{1, 2, 4, 5, 5}; !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}
