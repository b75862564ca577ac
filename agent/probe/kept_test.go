package probe

import (
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"nodelet/agent/handler"
	"nodelet/internal/keep/keeptest"
	"nodelet/internal/model"
)

// killed ends the process and starts another one, which has nothing but what was kept.
func (w *world) killed(pause time.Duration) {
	w.halt()
	w.w.Probes.Replace(nil)
	time.Sleep(pause)
	w.boot()
}

func TestCountsSurviveAKill(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kept = &keeptest.Memory[Kept]{}
		w.killed(0)
		w.pod(func(_ *corev1.Pod, c *corev1.Container) {
			c.ReadinessProbe = probe("r", func(p *corev1.Probe) { p.SuccessThreshold = 2 })
			c.LivenessProbe = probe("l", nil)
		})
		w.container("1", model.ContainerRunning)
		time.Sleep(5 * time.Second)
		w.expect("0s/1", w.ran("r"))
		w.killed(time.Second)
		w.expect("1 failure", w.verdict(model.Readiness))
		time.Sleep(5 * time.Second) // second success, ten seconds after the first one: the rhythm goes on
		w.expect("10s/1", w.ran("r"))
		w.expect("1 success", w.verdict(model.Readiness))

		w.answer("l", handler.Failure)
		for range 3 { // each process sees one failure
			w.expect("1 success", w.verdict(model.Liveness))
			time.Sleep(9500 * time.Millisecond) // a kill in the very moment of a run would be a race of the test
			w.killed(500 * time.Millisecond)
		}
		w.expect("1 failure", w.verdict(model.Liveness))
		w.expect("1 success", w.verdict(model.Readiness))
		w.killed(time.Second)
		w.expect("1 failure", w.verdict(model.Liveness)) // it is still to be restarted
		w.ran("l")
		time.Sleep(time.Minute)
		w.expect("", w.ran("l"))
	})
}

// TestKilledOftenerThanThePeriod: a daemon that never lives as long as a period still probes.
func TestKilledOftenerThanThePeriod(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kept = &keeptest.Memory[Kept]{}
		w.killed(0)
		w.pod(func(_ *corev1.Pod, c *corev1.Container) { c.LivenessProbe = probe("l", nil) })
		w.container("1", model.ContainerRunning)
		w.answer("l", handler.Failure)
		for range 20 {
			time.Sleep(2900 * time.Millisecond)
			w.killed(100 * time.Millisecond)
		}
		w.expect("1 failure", w.verdict(model.Liveness))
	})
}

func TestSteadyProbesWriteNothing(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kept = &keeptest.Memory[Kept]{}
		w.killed(0)
		w.pod(func(_ *corev1.Pod, c *corev1.Container) { c.ReadinessProbe = probe("r", nil) })
		w.container("1", model.ContainerRunning)
		time.Sleep(time.Minute)
		before := w.kept.Take()
		time.Sleep(time.Hour)
		if later := w.kept.All(); len(later) > 0 || len(before) != 1 {
			t.Errorf("kept %d at first, %d written later", len(before), len(later))
		}
	})
}

func TestProbesOfPodsThatWentMeanwhileAreForgotten(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kept = &keeptest.Memory[Kept]{}
		w.killed(0)
		w.pod(func(_ *corev1.Pod, c *corev1.Container) { c.ReadinessProbe = probe("r", nil) })
		w.container("1", model.ContainerRunning)
		w.halt()
		w.w.Pods.Replace(nil)
		w.boot()
		synctest.Wait()
		w.expect("none", w.verdict(model.Readiness))
		if left := w.kept.All(); len(left) > 0 {
			t.Errorf("still kept: %v", left)
		}
	})
}
