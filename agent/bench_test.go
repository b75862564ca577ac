package agent

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"nodelet/agent/podplan"
	"nodelet/internal/model"
)

// BenchmarkPod is what the agent itself costs for a pod from its coming to its
// going, on a runtime that takes no time.
func BenchmarkPod(b *testing.B) {
	w := newWorld(b, quiet)
	w.start()
	await := func(true func() bool) {
		for !true() {
			w.mu.Lock()
			changed := w.changed
			w.mu.Unlock()
			if !true() {
				<-changed
			}
		}
	}
	n := 0
	for b.Loop() {
		n++
		p := pod(fmt.Sprint("p", n), corev1.Container{Name: "c"})
		uid := model.UID(p.UID)
		w.put(p)
		await(func() bool { return w.ready(uid) })
		w.delete(uid, 2)
		await(func() bool { return w.get(uid) == nil })
	}
}

func BenchmarkMake(b *testing.B) {
	w := newWorld(b, quiet)
	w.start()
	p := pod("a", corev1.Container{Name: "c"}, corev1.Container{Name: "d"})
	w.put(p)
	w.await("pod ready", 1e10, func() bool { return w.ready(model.UID(p.UID)) })
	facts := w.agent.facts(model.UID(p.UID), w.agent.deps.Store.Snapshot(), p.CreationTimestamp.Time)
	b.ReportAllocs()
	for b.Loop() {
		podplan.Make(facts, p.CreationTimestamp.Time)
	}
}
