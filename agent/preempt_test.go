package agent

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/agent/admission"
	"nodelet/cri/critest"
	"nodelet/internal/model"
)

// A critical pod starts when those that make room for it have ended, and not before.
func TestCriticalPodWaitsForThoseThatGo(t *testing.T) {
	config := quiet
	config.Program = func(*runtimev1.ContainerConfig) critest.Program { return critest.Program{IgnoreTerm: true} }
	in(t, config, func(w *world) {
		w.mu.Lock()
		w.room = admission.Node{Allocatable: resources("1", "1Gi").Requests}
		w.mu.Unlock()
		whole := resources("1", "1Mi")
		grace := int64(20)
		victim := pod("victim", corev1.Container{Name: "c", Resources: whole})
		victim.Spec.TerminationGracePeriodSeconds = &grace
		gone := w.run(victim)
		critical := pod("critical", corev1.Container{Name: "c", Resources: whole})
		priority := int32(2_000_001_000)
		critical.Spec.Priority = &priority
		w.put(critical)
		time.Sleep(15 * time.Second)
		for _, s := range w.runtime.Sandboxes() {
			if strings.Contains(s.GetMetadata().GetName(), "critical") {
				t.Error("the critical pod has begun beside the one that has to go")
			}
		}
		w.await("critical pod runs", 30*time.Second, func() bool { return w.ready(model.UID(critical.UID)) })
		if p := w.get(gone); p.Status.Phase != corev1.PodFailed || p.Status.Reason != admission.Preempted {
			t.Errorf("the other one is %s %s", p.Status.Phase, p.Status.Reason)
		}
	})
}
