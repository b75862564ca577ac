package agent

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"nodelet/cri/critest"
	"nodelet/internal/model"
)

// What fails outside of the runtime is not told as if the runtime had failed.
func TestCgroupFailureIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, quiet)
		w.cgroup = func(n int) error {
			if n == 1 {
				return errors.New("no space left on device")
			}
			return nil
		}
		w.start()
		p := pod("a", corev1.Container{Name: "c"})
		w.put(p)
		w.await("pod ready", time.Minute, func() bool { return w.ready(model.UID(p.UID)) })
		if !w.told("a Warning FailedCreatePodContainer: unable to ensure pod container exists: no space left on device") || w.told("a Warning FailedCreatePodSandBox") {
			t.Errorf("events %q", w.events)
		}
		w.kill()
	})
}

// A kill that the runtime refuses is told, and done in the end.
func TestKillFailureIsTold(t *testing.T) {
	in(t, quiet, func(w *world) {
		uid := w.run(pod("a", corev1.Container{Name: "c"}))
		w.runtime.Inject(critest.Fault{Op: "StopContainer", Kind: critest.Refuse})
		w.delete(uid, 1)
		w.await("pod gone", time.Minute, func() bool { return w.get(uid) == nil })
		if !w.told("a Warning FailedKillPod: error killing pod: ") {
			t.Errorf("events %q", w.events)
		}
	})
}
