package evict

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"nodelet/agent/evict/evictplan"
	"nodelet/internal/keep/keeptest"
	"nodelet/internal/model"
	"nodelet/internal/store"
)

// TestDecisionsSurviveTheDaemon: the next process shows the pressure from its first moment on, and has the
// pods go that were on their way, until the API knows of their end.
func TestDecisionsSurviveTheDaemon(t *testing.T) {
	evicting(t, func(w *world) {
		t := w.T
		kept := &keeptest.Memory[Kept]{}
		w.e.deps.Keep = kept
		w.pod("a", 300*mi)
		w.set(func() { w.memory = 90 * mi })
		time.Sleep(2 * time.Second)
		if !w.e.Has(corev1.NodeMemoryPressure) || w.rows() == "" {
			t.Fatalf("no pressure, or nothing evicted: %q", w.rows())
		}
		thresholds, err := evictplan.Parse(evictplan.Statements{Hard: evictplan.DefaultHard()})
		if err != nil {
			t.Fatal(err)
		}
		snapshots, writers := store.New()
		next := New(Config{NodeName: "n1", Thresholds: thresholds, Pressure: "-", Kmsg: "-"}, Deps{
			Store: snapshots, Evictions: writers.Evictions, Stats: w, Events: w, Log: slog.New(slog.DiscardHandler),
			Reclaim: func(context.Context) error { return nil }, Keep: kept, Before: kept.All(),
		})
		if !next.Has(corev1.NodeMemoryPressure) {
			t.Error("the next process shows no pressure at its start")
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- next.Run(ctx) }()
		synctest.Wait()
		if row, ok := snapshots.Snapshot().Evictions.Get("u-a"); !ok || row.Grace != 0 && row.Message == "" {
			t.Errorf("the pod that was to go may stay: %v", row)
		}
		pod, _ := w.store.Snapshot().Pods.Get("u-a")
		over := pod.DeepCopy()
		over.Status.Phase, over.ResourceVersion = corev1.PodFailed, "over"
		writers.Runtime.Replace(nil)
		writers.Pods.Set("u-a", over)
		writers.Pods.Commit(func(tx *store.Tx[model.UID, *corev1.Pod]) { tx.Synced() })
		time.Sleep(2 * time.Second)
		if _, left := kept.All()["pod/u-a"]; left {
			t.Error("an eviction that is over is still kept")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// Pressure that was found before the clock was set back goes when its time is over.
func TestPressureKeptBeforeTheClockWasSetBack(t *testing.T) {
	now := time.Now()
	later := now.Add(24 * time.Hour)
	s := past(evictplan.State{Since: map[string]time.Time{"a": later}, Pressure: map[corev1.NodeConditionType]time.Time{"P": later}}, now)
	if s.Since["a"].After(now) || s.Pressure["P"].After(now) {
		t.Errorf("%v", s)
	}
}
