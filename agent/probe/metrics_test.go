package probe

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"nodelet/agent/handler"
	"nodelet/internal/model"
)

// counts is a Metrics that keeps what it is told.
type counts struct {
	mu  sync.Mutex
	ran map[string]int
}

func (c *counts) Ran(pod *corev1.Pod, key model.ProbeKey, o handler.Outcome, _ time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ran[fmt.Sprint(pod.Name, " ", key, " ", o)]++
}

func (c *counts) Forget(key model.ProbeKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ran["forget "+key.String()]++
}

func (c *counts) list() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := ""
	for _, k := range slices.Sorted(maps.Keys(c.ran)) {
		out += fmt.Sprintf("%s: %d\n", k, c.ran[k])
	}
	return out
}

// Each run is counted once by its outcome, and a probe that is no more is forgotten.
func TestMetrics(t *testing.T) {
	bubble(t, func(_ *testing.T, w *world) {
		w.pod(func(_ *corev1.Pod, c *corev1.Container) { c.ReadinessProbe = probe("r", nil) })
		w.container("1", model.ContainerRunning)
		time.Sleep(15 * time.Second)
		w.answer("r", handler.Unknown) // tried three times, counted once
		time.Sleep(10 * time.Second)
		w.answer("r", handler.Failure)
		time.Sleep(10 * time.Second)
		w.pod(func(_ *corev1.Pod, c *corev1.Container) { c.ReadinessProbe = nil })
		w.expect("forget u/c/readiness: 1\np u/c/readiness failure: 1\np u/c/readiness success: 2\np u/c/readiness unknown: 1\n", w.counts.list())
	})
}
