package agent

import (
	"fmt"
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

// So does each of many that start at once and therefore take longer. One of them that hangs is told of
// all the same.
func TestStartsOfManyAreToldOnce(t *testing.T) {
	config := quiet
	config.Latency = map[string]time.Duration{"RunPodSandbox": 2 * time.Second, "StartContainer": time.Second}
	in(t, config, func(w *world) {
		var uids []model.UID
		for i := range 30 {
			p := pod(fmt.Sprintf("p%d", i), corev1.Container{Name: "c"})
			w.put(p)
			uids = append(uids, model.UID(p.UID))
		}
		time.Sleep(time.Minute)
		for _, uid := range uids {
			if h := w.history[uid]; len(h) != 1 || h[0].Phase != corev1.PodRunning {
				t.Errorf("%d writes of pod %s", len(h), uid)
			}
		}
	})
	config.Latency["RunPodSandbox"] = time.Minute
	in(t, config, func(w *world) {
		var last *corev1.Pod
		for i := range 100 {
			last = pod(fmt.Sprintf("p%d", i), corev1.Container{Name: "c"})
			w.put(last)
		}
		w.await("status while the sandbox is made", calmLimit+time.Second, func() bool {
			return len(w.get(model.UID(last.UID)).Status.ContainerStatuses) == 1
		})
	})
}
