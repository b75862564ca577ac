package agent

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/agent/admission"
	"nodelet/cri/critest"
)

// tally is a Metrics that keeps what it is told of starts and of admission.
type tally struct {
	silent
	mu   sync.Mutex
	said []string
}

func (m *tally) say(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.said = append(m.said, fmt.Sprintf(format, args...))
}

func (m *tally) heard(what string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Contains(m.said, what)
}

func (m *tally) Begun(time.Duration)         { m.say("begun") }
func (m *tally) Running(total time.Duration) { m.say("running") }
func (m *tally) Ready(took time.Duration)    { m.say("ready %s", took.Round(10*time.Second)) }
func (m *tally) Preempted(short string)      { m.say("preempted %s", short) }
func (m *tally) Rejected(reason string)      { m.say("rejected %s", reason) }
func (m *tally) Orphaned()                   { m.say("orphaned") }
func (m *tally) Sandbox(handler string, _ time.Duration, err error) {
	m.say("sandbox %q %t", handler, err == nil)
}

// Pulls and init containers do not count as the time that a start took, and a pod with a state does not count at all.
func TestStartsAreMeasured(t *testing.T) {
	config := quiet
	config.Program = func(c *runtimev1.ContainerConfig) critest.Program {
		if c.GetMetadata().GetName() == "init" {
			return critest.Program{RunFor: 20 * time.Second}
		}
		return critest.Program{}
	}
	in(t, config, func(w *world) {
		w.kill()
		m := &tally{}
		w.metrics, w.pulling = m, 15*time.Second
		w.start()
		p := pod("usual", corev1.Container{Name: "c"})
		p.Spec.InitContainers = []corev1.Container{{Name: "init", Image: "init"}}
		w.run(p)
		for _, want := range []string{"begun", `sandbox "" true`, "running", "ready 0s"} {
			w.await(want, time.Minute, func() bool { return m.heard(want) })
		}
		stateful := pod("stateful", corev1.Container{Name: "c"})
		stateful.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}}}
		w.run(stateful)
		time.Sleep(time.Second)
		m.mu.Lock()
		defer m.mu.Unlock()
		if n := len(slices.DeleteFunc(m.said, func(s string) bool { return s != "ready 0s" })); n != 1 {
			t.Errorf("%d starts without state, there was one", n)
		}
	})
}

// Who is turned away, and who must make room, is counted with the reason; and what the runtime has that nobody knows.
func TestAdmissionIsCounted(t *testing.T) {
	in(t, quiet, func(w *world) {
		left := w.run(pod("left", corev1.Container{Name: "c"}))
		w.kill()
		w.remove(left)
		m := &tally{}
		w.metrics = m
		w.room = admission.Node{Allocatable: resources("1", "1Gi").Requests}
		w.start()
		whole := resources("1", "1Mi")
		w.run(pod("victim", corev1.Container{Name: "c", Resources: whole}))
		w.put(pod("late", corev1.Container{Name: "c", Resources: whole}))
		critical := pod("critical", corev1.Container{Name: "c", Resources: whole})
		priority := int32(2_000_001_000)
		critical.Spec.Priority = &priority
		w.run(critical)
		for _, want := range []string{"orphaned", "rejected OutOfcpu", "preempted cpu"} {
			w.await(want, time.Minute, func() bool { return m.heard(want) })
		}
	})
}
