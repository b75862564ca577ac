package agent

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/model"
)

// A pod that starts as usual costs the API server one write; one that takes
// long says meanwhile what it waits for.
func TestStartsAreToldOnce(t *testing.T) {
	config := quiet
	config.Latency = map[string]time.Duration{
		"RunPodSandbox": 70 * time.Millisecond, "CreateContainer": 5 * time.Millisecond, "StartContainer": 45 * time.Millisecond,
	}
	in(t, config, func(w *world) {
		uid := w.run(pod("usual", corev1.Container{Name: "c"}))
		time.Sleep(time.Minute)
		if h := w.history[uid]; len(h) != 1 {
			t.Errorf("%d writes: %+v", len(h), h)
		}
	})
	config.Latency["RunPodSandbox"] = time.Second
	in(t, config, func(w *world) {
		p := pod("slow", corev1.Container{Name: "c"})
		w.put(p)
		w.await("status while the sandbox is made", 300*time.Millisecond, func() bool {
			s := w.get(model.UID(p.UID)).Status.ContainerStatuses
			return len(s) == 1 && s[0].State.Waiting != nil && s[0].State.Waiting.Reason == "ContainerCreating"
		})
	})
}
