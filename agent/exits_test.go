package agent

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"nodelet/cri"
	"nodelet/cri/critest"
	"nodelet/internal/model"
)

// A container that is started again whatever happens is told to have ended, and started again, before the
// runtime has cleaned up after it; one whose output somebody may wait for is not.
func TestExitsAreToldEarly(t *testing.T) {
	const lag = 700 * time.Millisecond
	for _, c := range []struct {
		name  string
		early bool
		edit  func(*corev1.Pod)
	}{
		{"always", true, func(*corev1.Pod) {}},
		{"on failure", false, func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyOnFailure }},
		{"never", false, func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyNever }},
		{"rules of its own", false, func(p *corev1.Pod) {
			never := corev1.ContainerRestartPolicyNever
			p.Spec.Containers[0].RestartPolicy = &never
		}},
		{"last words from its log", false, func(p *corev1.Pod) {
			p.Spec.Containers[0].TerminationMessagePolicy = corev1.TerminationMessageFallbackToLogsOnError
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			in(t, critest.Config{FaultRate: -1, ExitLag: lag}, func(w *world) {
				p := pod("a", corev1.Container{Name: "c"})
				c.edit(p)
				uid := w.run(p)
				first := w.container("c")
				began := time.Now()
				w.runtime.Exit(first.GetId(), 3)
				terminated := func() *corev1.ContainerStateTerminated {
					for _, s := range w.get(uid).Status.ContainerStatuses {
						if s.State.Terminated != nil {
							return s.State.Terminated
						}
						if s.LastTerminationState.Terminated != nil {
							return s.LastTerminationState.Terminated
						}
					}
					return nil
				}
				w.await("the end in the API", time.Minute, func() bool { return terminated() != nil })
				if took := time.Since(began); took < lag != c.early {
					t.Errorf("told after %s", took)
				}
				if got := terminated(); got.ExitCode != 3 || got.Reason != "Error" || !got.FinishedAt.Time.Equal(began.Truncate(time.Second)) {
					t.Errorf("told %+v, ended %s", got, began)
				}
				if c.early {
					w.await("started again", time.Minute, func() bool { return w.ready(uid) && w.container("c").GetId() != first.GetId() })
					if took := time.Since(began); took >= lag {
						t.Errorf("started again after %s", took)
					}
				}
				time.Sleep(time.Minute)
				if got := w.get(uid).Status.ContainerStatuses[0].RestartCount; c.early && got != 1 {
					t.Errorf("started again %d times", got)
				}
				w.agent.observer.mu.Lock()
				defer w.agent.observer.mu.Unlock()
				if left := len(w.agent.observer.exits) + len(w.agent.observer.altered); left > 0 {
					t.Errorf("%d exits are remembered for ever", left)
				}
			})
		})
	}
}

// A container that the agent replaces is told to have ended when the runtime says so: whoever changed the
// pod may still look at what was true before.
func TestReplacedContainersAreNotToldEarly(t *testing.T) {
	const lag = 700 * time.Millisecond
	in(t, critest.Config{FaultRate: -1, ExitLag: lag}, func(w *world) {
		uid := w.run(pod("a", corev1.Container{Name: "c", Image: "one"}))
		first := w.container("c").GetId()
		began := time.Now()
		w.edit(uid, func(p *corev1.Pod) { p.Spec.Containers[0].Image = "two" })
		w.await("replaced", time.Minute, func() bool { return w.ready(uid) && w.container("c").GetId() != first })
		if took := time.Since(began); took < lag {
			t.Errorf("replaced after %s, told before the runtime had cleaned up", took)
		}
		time.Sleep(time.Minute)
		w.agent.observer.mu.Lock()
		defer w.agent.observer.mu.Unlock()
		if left := len(w.agent.observer.asked); left > 0 {
			t.Errorf("%d stops are remembered for ever", left)
		}
	})
}

// What the runtime says in the end counts: only it knows of a kill for lack of memory.
func TestEarlyExitIsCorrected(t *testing.T) {
	in(t, critest.Config{FaultRate: -1, ExitLag: 300 * time.Millisecond}, func(w *world) {
		uid := w.run(pod("a", corev1.Container{Name: "c"}))
		first := w.container("c").GetId()
		w.runtime.OOMKill(first)
		w.await("the end in the table", time.Minute, func() bool {
			rt, _ := w.agent.deps.Store.Snapshot().Runtime.Get(uid)
			return rt.ByID(first).State == model.ContainerExited
		})
		w.await("the reason", time.Minute, func() bool {
			last := w.get(uid).Status.ContainerStatuses[0].LastTerminationState.Terminated
			return last != nil && last.Reason == "OOMKilled" && last.ExitCode == 137
		})
	})
}

// A runtime without events, which is listed every second, is asked again soon after an end, until it tells of it.
func TestEndsInARuntimeWithoutEvents(t *testing.T) {
	const lag, most = 50 * time.Millisecond, 100 * time.Millisecond
	cfg := critest.Config{FaultRate: -1, ExitLag: lag, Unimplemented: []string{"GetContainerEvents"}}
	for _, phase := range []time.Duration{100 * time.Millisecond, 400 * time.Millisecond, 700 * time.Millisecond} {
		in(t, cfg, func(w *world) {
			p := pod("a", corev1.Container{Name: "c"})
			p.Spec.RestartPolicy = corev1.RestartPolicyNever
			uid := w.run(p)
			time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second + phase))) // at some time between two lists
			began := time.Now()
			id := w.container("c").GetId()
			w.runtime.Exit(id, 3)
			w.await("the end in the table", time.Minute, func() bool {
				rt, _ := w.agent.deps.Store.Snapshot().Runtime.Get(uid)
				return rt.ByID(id).State == model.ContainerExited
			})
			if took := time.Since(began); took < lag || took > most {
				t.Errorf("seen after %s", took)
			}
			if n := w.agent.observer.awaited(); n > 0 {
				t.Errorf("%d ends are remembered for ever", n)
			}
		})
	}
}

// A runtime that takes long to clean up is not asked for ever: the next list finds it.
func TestEndsThatAreToldLate(t *testing.T) {
	const lag = 5 * time.Second
	in(t, critest.Config{FaultRate: -1, ExitLag: lag, Unimplemented: []string{"GetContainerEvents"}}, func(w *world) {
		p := pod("a", corev1.Container{Name: "c"})
		p.Spec.RestartPolicy = corev1.RestartPolicyNever
		uid := w.run(p)
		id := w.container("c").GetId()
		w.runtime.Exit(id, 3)
		w.await("that it is waited for", time.Minute, func() bool { return w.agent.observer.awaited() == 1 })
		w.await("that it is waited for no more", lag/2, func() bool { return w.agent.observer.awaited() == 0 })
		w.await("the end in the API", lag+5*time.Second, func() bool { return w.get(uid).Status.Phase == corev1.PodFailed })
	})
}

func (o *observer) awaited() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.endings)
}

// An end whose cause only the runtime can tell is told when it does.
func TestUnclearEndsAreLeftToTheRuntime(t *testing.T) {
	in(t, critest.Config{FaultRate: -1}, func(w *world) {
		w.run(pod("a", corev1.Container{Name: "c"}))
		id := w.container("c").GetId()
		for _, unclear := range []bool{true, false} {
			w.agent.observer.noteExit(cri.Exit{ContainerID: id, Code: 137, Unclear: unclear})
			if _, told := w.agent.observer.exited(id); told == unclear {
				t.Errorf("unclear %t: told early %t", unclear, told)
			}
		}
	})
}
