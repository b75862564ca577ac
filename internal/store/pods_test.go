package store

import (
	"maps"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/model"
)

func TestPodsTouched(t *testing.T) {
	s, w := New()
	w.Pods.Set("a", &corev1.Pod{})
	w.Runtime.Set("b", &model.PodRuntime{UID: "b"})
	first := s.Snapshot()
	w.Allocations.Set("c", &model.Allocation{})
	w.Runtime.Delete("b")
	now := s.Snapshot()
	for name, c := range map[string]struct {
		since *Snapshot
		want  map[model.UID]bool
	}{
		"nothing before": {nil, map[model.UID]bool{"a": true, "c": true}},
		"since first":    {first, map[model.UID]bool{"b": true, "c": true}},
		"since now":      {now, map[model.UID]bool{}},
	} {
		if got := now.PodsTouched(c.since); !maps.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
