package agent

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"go.uber.org/goleak"

	"nodelet/cri/critest"
	"nodelet/internal/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPodRunsAndGoes(t *testing.T) {
	w := newWorld(t, critest.Config{FaultRate: -1})
	w.start()
	p := pod("a", corev1.Container{Name: "c"})
	uid := model.UID(p.UID)
	w.put(p)
	w.await("pod ready", 5*time.Second, func() bool { return condition(w.get(uid), corev1.PodReady) == corev1.ConditionTrue })
	if got := w.get(uid).Status.Phase; got != corev1.PodRunning {
		t.Fatalf("phase %s", got)
	}
	w.delete(uid, 2)
	w.await("pod gone", 5*time.Second, func() bool { return w.get(uid) == nil })
	if len(w.runtime.Containers()) > 0 || len(w.runtime.Sandboxes()) > 0 {
		t.Fatalf("left in the runtime:\n%s", w)
	}
	if bad := w.runtime.Incidents(); len(bad) > 0 {
		t.Fatalf("incidents: %v", bad)
	}
}
