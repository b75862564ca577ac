package probe

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/agent/handler"
	"nodelet/internal/keep/keeptest"
	"nodelet/internal/model"
	"nodelet/internal/store"
)

// world is a store with a probe part whose handlers answer as told. Times are
// seconds since its start.
type world struct {
	t      *testing.T
	store  *store.Store
	w      *store.Writers
	begun  time.Time
	cancel func()
	done   chan struct{}

	mu sync.Mutex
	// answers by probe command; success when there is none.
	answers map[string]handler.Result
	// hang makes a probe of that command wait for its context.
	hang    map[string]bool
	hanging int
	runs    []string
	events  []string
	counts  counts
	// kept is what outlives the process; nil: nothing.
	kept *keeptest.Memory[Kept]
}

func (w *world) Probe(ctx context.Context, t handler.Target, p *corev1.Probe) handler.Result {
	name := p.Exec.Command[0]
	w.mu.Lock()
	w.runs = append(w.runs, fmt.Sprintf("%s@%s/%s", name, time.Since(w.begun).Round(100*time.Millisecond), t.ContainerID))
	answer, hang := w.answers[name], w.hang[name]
	if hang {
		w.hanging++
	}
	w.mu.Unlock()
	if hang {
		<-ctx.Done()
		w.mu.Lock()
		w.hanging--
		w.mu.Unlock()
		return handler.Result{Outcome: handler.Failure, Message: "context ended"}
	}
	return answer
}

func (w *world) Event(ref corev1.ObjectReference, kind, reason, message string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, fmt.Sprintf("%s %s %s %s: %s", ref.Name, ref.FieldPath, kind, reason, message))
}

func (w *world) answer(name string, o handler.Outcome) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers[name] = handler.Result{Outcome: o, Message: "because"}
}

// ran gives the runs of a probe since the last call, and forgets all others too.
func (w *world) ran(name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, r := range w.runs {
		if n, rest, _ := strings.Cut(r, "@"); n == name {
			out = append(out, rest)
		}
	}
	w.runs = nil
	return strings.Join(out, " ")
}

func bubble(t *testing.T, test func(*testing.T, *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, begun: time.Now(), answers: map[string]handler.Result{}, hang: map[string]bool{}, counts: counts{ran: map[string]int{}}}
		w.store, w.w = store.New()
		w.boot()
		test(t, w)
		w.halt()
	})
}

// boot starts the part; what the store holds stays.
func (w *world) boot() {
	deps := Deps{Store: w.store, Probes: w.w.Probes, Handlers: w, Events: w, Metrics: &w.counts, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		NodeIP: func() netip.Addr { return netip.MustParseAddr("192.0.2.1") }}
	if w.kept != nil {
		deps.Keep, deps.Before = w.kept, w.kept.All()
	}
	p, err := New(deps)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	w.cancel, w.done = cancel, make(chan struct{})
	go func() { defer close(w.done); p.Run(ctx) }()
	synctest.Wait()
}

func (w *world) halt() {
	w.cancel()
	<-w.done
}

func probe(name string, change func(*corev1.Probe)) *corev1.Probe {
	p := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{name}}}, PeriodSeconds: 10, TimeoutSeconds: 1, SuccessThreshold: 1, FailureThreshold: 3}
	if change != nil {
		change(p)
	}
	return p
}

func (w *world) pod(change func(*corev1.Pod, *corev1.Container)) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns", UID: "u"}}
	if old, ok := w.store.Snapshot().Pods.Get("u"); ok {
		pod = old.DeepCopy()
	}
	if len(pod.Spec.Containers) == 0 {
		pod.Spec.Containers = []corev1.Container{{Name: "c"}}
	}
	pod.ResourceVersion += "x"
	change(pod, &pod.Spec.Containers[0])
	w.w.Runtime.Replace(maps.Collect(w.store.Snapshot().Runtime.All()))
	w.w.Pods.Replace(map[model.UID]*corev1.Pod{"u": pod})
	synctest.Wait()
}

// container says that the runtime has this container of the pod.
func (w *world) container(id string, state model.ContainerState) {
	w.w.Runtime.Set("u", &model.PodRuntime{UID: "u",
		Sandboxes:  []model.Sandbox{{ID: "s", Ready: true, IPs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}},
		Containers: []model.Container{{ID: id, Name: "c", SandboxID: "s", State: state, Started: time.Now()}}})
	synctest.Wait()
}

func (w *world) verdict(t model.ProbeType) string {
	synctest.Wait()
	p, ok := w.store.Snapshot().Probes.Get(model.ProbeKey{PodUID: "u", Container: "c", Type: t})
	if !ok {
		return "none"
	}
	return p.ContainerID + " " + p.Verdict.String()
}

func (w *world) expect(want string, got string) {
	w.t.Helper()
	if got != want {
		w.t.Errorf("got  %.300q\nwant %q", got, want)
	}
}

func TestReadiness(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.answer("r", handler.Failure)
		w.pod(func(_ *corev1.Pod, c *corev1.Container) {
			c.ReadinessProbe = probe("r", func(p *corev1.Probe) { p.InitialDelaySeconds, p.SuccessThreshold, p.FailureThreshold = 5, 2, 3 })
		})
		w.expect("none", w.verdict(model.Readiness))
		w.container("1", model.ContainerRunning)
		w.expect("1 failure", w.verdict(model.Readiness))
		revision := w.store.Snapshot().Revision
		time.Sleep(26 * time.Second)
		w.expect("5s/1 15s/1 25s/1", w.ran("r"))
		if w.store.Snapshot().Revision != revision {
			t.Error("the table changed without a new verdict")
		}
		w.answer("r", handler.Success)
		time.Sleep(10 * time.Second)
		w.expect("1 failure", w.verdict(model.Readiness)) // 1 of 2
		time.Sleep(10 * time.Second)
		w.expect("1 success", w.verdict(model.Readiness))
		w.answer("r", handler.Failure)
		time.Sleep(20 * time.Second)
		w.expect("1 success", w.verdict(model.Readiness)) // 2 of 3
		w.answer("r", handler.Success)
		time.Sleep(10 * time.Second)
		w.answer("r", handler.Failure)
		time.Sleep(30 * time.Second)
		w.expect("1 failure", w.verdict(model.Readiness))
		w.expect("35s/1 45s/1 55s/1 1m5s/1 1m15s/1 1m25s/1 1m35s/1 1m45s/1", w.ran("r"))
		if w.events[0] != "p spec.containers{c} Warning Unhealthy: Readiness probe failed: because" {
			t.Errorf("events %q", w.events)
		}
	})
}

func TestNewContainerBeginsAnew(t *testing.T) {
	bubble(t, func(_ *testing.T, w *world) {
		w.pod(func(_ *corev1.Pod, c *corev1.Container) { c.ReadinessProbe = probe("r", nil) })
		w.container("1", model.ContainerRunning)
		w.expect("1 success", w.verdict(model.Readiness))
		w.container("1", model.ContainerExited)
		w.ran("r")
		time.Sleep(time.Minute)
		w.expect("", w.ran("r"))
		w.answer("r", handler.Failure)
		w.container("2", model.ContainerRunning)
		w.expect("2 failure", w.verdict(model.Readiness))
		w.expect("1m0s/2", w.ran("r"))
	})
}

func TestLivenessHoldsAfterFailure(t *testing.T) {
	bubble(t, func(_ *testing.T, w *world) {
		w.answer("l", handler.Failure)
		w.pod(func(_ *corev1.Pod, c *corev1.Container) {
			c.LivenessProbe = probe("l", func(p *corev1.Probe) { p.PeriodSeconds = 1 })
		})
		w.container("1", model.ContainerRunning)
		w.expect("1 success", w.verdict(model.Liveness))
		time.Sleep(time.Minute)
		w.expect("1 failure", w.verdict(model.Liveness))
		w.expect("0s/1 1s/1 2s/1", w.ran("l"))
		w.container("2", model.ContainerRunning)
		w.expect("2 success", w.verdict(model.Liveness))
	})
}

func TestStartupGatesTheOthers(t *testing.T) {
	bubble(t, func(_ *testing.T, w *world) {
		w.answer("s", handler.Failure)
		w.pod(func(_ *corev1.Pod, c *corev1.Container) {
			c.StartupProbe = probe("s", func(p *corev1.Probe) { p.PeriodSeconds, p.FailureThreshold = 1, 100 })
			c.LivenessProbe, c.ReadinessProbe = probe("l", nil), probe("r", nil)
		})
		w.container("1", model.ContainerRunning)
		time.Sleep(30 * time.Second)
		w.expect("1 pending", w.verdict(model.Startup))
		w.expect("1 success", w.verdict(model.Liveness))
		w.expect("1 failure", w.verdict(model.Readiness))
		w.mu.Lock()
		if slices.ContainsFunc(w.runs, func(r string) bool { return r[0] != 's' }) {
			w.t.Errorf("runs %q", w.runs)
		}
		w.mu.Unlock()
		w.answer("s", handler.Success)
		time.Sleep(time.Second)
		w.expect("1 success", w.verdict(model.Startup))
		w.expect("1 success", w.verdict(model.Readiness))
		w.ran("")
		time.Sleep(time.Minute)
		w.expect("", w.ran("s")) // never again for this container
		w.answer("s", handler.Failure)
		w.container("2", model.ContainerRunning)
		w.expect("2 failure", w.verdict(model.Readiness))
	})
}

func TestStartupFailure(t *testing.T) {
	bubble(t, func(_ *testing.T, w *world) {
		w.answer("s", handler.Failure)
		w.pod(func(_ *corev1.Pod, c *corev1.Container) { c.StartupProbe = probe("s", nil) })
		w.container("1", model.ContainerRunning)
		time.Sleep(time.Hour)
		w.expect("1 failure", w.verdict(model.Startup))
		w.expect("0s/1 10s/1 20s/1", w.ran("s"))
	})
}

func TestProbesThatCannotBeRunSayNothing(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(func(_ *corev1.Pod, c *corev1.Container) {
			c.LivenessProbe = probe("l", func(p *corev1.Probe) { p.FailureThreshold = 1 })
		})
		w.container("1", model.ContainerRunning)
		w.ran("l")
		w.answer("l", handler.Unknown)
		time.Sleep(25 * time.Second)
		w.expect("1 success", w.verdict(model.Liveness))
		w.expect("10s/1 10s/1 10s/1 20s/1 20s/1 20s/1", w.ran("l"))
		if len(w.events) != 2 || !strings.HasSuffix(w.events[0], "Liveness probe errored and resulted in unknown state: because") {
			t.Errorf("events %q", w.events)
		}
	})
}

func TestRestartOfTheDaemonChangesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(func(pod *corev1.Pod, c *corev1.Container) {
			c.StartupProbe, c.ReadinessProbe, c.LivenessProbe = probe("s", nil), probe("r", nil), probe("l", nil)
			started := true
			pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", ContainerID: "containerd://1", Ready: true, Started: &started}}
		})
		w.halt()
		w.container("1", model.ContainerRunning) // it ran while no daemon did
		time.Sleep(time.Second)
		w.begun = time.Now()
		w.boot()
		for _, probe := range []model.ProbeType{model.Startup, model.Readiness, model.Liveness} {
			w.expect("1 success", w.verdict(probe))
		}
		time.Sleep(9999 * time.Millisecond)
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.runs) != 2 || w.runs[0] == strings.Replace(w.runs[1], "l@", "r@", 1) {
			t.Errorf("the first runs are not spread over the period, or the startup probe ran: %q", w.runs)
		}
	})
}

func TestContainerNobodyKnewIsNotReady(t *testing.T) {
	bubble(t, func(_ *testing.T, w *world) {
		w.answer("r", handler.Failure)
		w.pod(func(pod *corev1.Pod, c *corev1.Container) {
			c.ReadinessProbe = probe("r", nil)
			pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", ContainerID: "containerd://old", Ready: true}}
		})
		w.container("1", model.ContainerRunning)
		w.expect("1 failure", w.verdict(model.Readiness))
	})
}

func TestDeletion(t *testing.T) {
	bubble(t, func(_ *testing.T, w *world) {
		w.answer("l", handler.Failure)
		w.pod(func(_ *corev1.Pod, c *corev1.Container) {
			c.LivenessProbe, c.ReadinessProbe = probe("l", nil), probe("r", nil)
		})
		w.container("1", model.ContainerRunning)
		time.Sleep(15 * time.Second)
		w.pod(func(pod *corev1.Pod, _ *corev1.Container) { pod.DeletionTimestamp = &metav1.Time{Time: time.Now()} })
		w.ran("")
		w.answer("r", handler.Failure)
		time.Sleep(30 * time.Second)
		w.expect("1 success", w.verdict(model.Liveness)) // peace for one that is ending
		w.expect("1 failure", w.verdict(model.Readiness))
		w.expect("20s/1 30s/1 40s/1", w.ran("r"))
		w.w.Pods.Replace(nil)
		synctest.Wait()
		if n := w.store.Snapshot().Probes.Len(); n != 0 {
			w.t.Errorf("%d verdicts left", n)
		}
		time.Sleep(time.Minute)
		w.expect("", w.ran("r"))
	})
}

func TestPodThatEndedOrLostItsProbe(t *testing.T) {
	bubble(t, func(_ *testing.T, w *world) {
		w.pod(func(_ *corev1.Pod, c *corev1.Container) { c.ReadinessProbe = probe("r", nil) })
		w.container("1", model.ContainerRunning)
		w.pod(func(pod *corev1.Pod, _ *corev1.Container) { pod.Status.Phase = corev1.PodFailed })
		w.expect("none", w.verdict(model.Readiness))
	})
}

func TestOneThatHangsDelaysNobodyAndEndsWithItsContainer(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.hang["l"] = true
		w.pod(func(_ *corev1.Pod, c *corev1.Container) {
			c.LivenessProbe, c.ReadinessProbe = probe("l", nil), probe("r", nil)
		})
		w.container("1", model.ContainerRunning)
		time.Sleep(25 * time.Second)
		w.expect("0s/1 10s/1 20s/1", w.ran("r"))
		w.container("1", model.ContainerExited)
		w.expect("1 success", w.verdict(model.Liveness)) // what hung was cut off, and says nothing
		if len(w.events) != 0 || w.hanging != 0 {
			t.Errorf("events %q, %d still hang", w.events, w.hanging)
		}
	})
}

func TestIdleCostsNoGoroutine(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(func(_ *corev1.Pod, c *corev1.Container) { c.LivenessProbe = probe("l", nil) })
		before := runtime.NumGoroutine()
		w.container("1", model.ContainerRunning)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if after := runtime.NumGoroutine(); after > before {
			t.Errorf("%d goroutines, %d before", after, before)
		}
	})
}

func TestPostStartGates(t *testing.T) {
	bubble(t, func(_ *testing.T, w *world) {
		w.pod(func(_ *corev1.Pod, c *corev1.Container) {
			c.ReadinessProbe = probe("r", nil)
			c.Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{}}
		})
		w.container("1", model.ContainerRunning)
		time.Sleep(time.Minute)
		w.expect("", w.ran("r"))
		w.pod(func(pod *corev1.Pod, _ *corev1.Container) {
			started := true
			pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", ContainerID: "containerd://1", Started: &started}}
		})
		w.expect("1m0s/1", w.ran("r"))
	})
}

// A probe that succeeds otherwise than was meant counts as a success, and users hear of it.
func TestOddSuccess(t *testing.T) {
	bubble(t, func(_ *testing.T, w *world) {
		w.mu.Lock()
		w.answers["r"] = handler.Result{Message: "Probe terminated redirects", Odd: true}
		w.mu.Unlock()
		w.pod(func(_ *corev1.Pod, c *corev1.Container) { c.ReadinessProbe = probe("r", nil) })
		w.container("1", model.ContainerRunning)
		time.Sleep(time.Second)
		w.expect("1 success", w.verdict(model.Readiness))
		if len(w.events) != 1 || w.events[0] != "p spec.containers{c} Warning ProbeWarning: Readiness probe warning: Probe terminated redirects" {
			t.Errorf("events %q", w.events)
		}
	})
}

// A container that was started before the clock was set back by a day is probed all the same.
func TestClockThatWasSetBack(t *testing.T) {
	bubble(t, func(_ *testing.T, w *world) {
		w.pod(func(_ *corev1.Pod, c *corev1.Container) {
			c.ReadinessProbe = probe("r", func(p *corev1.Probe) { p.InitialDelaySeconds = 20 })
		})
		w.w.Runtime.Set("u", &model.PodRuntime{UID: "u",
			Sandboxes:  []model.Sandbox{{ID: "s", Ready: true, IPs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}},
			Containers: []model.Container{{ID: "1", Name: "c", SandboxID: "s", State: model.ContainerRunning, Started: time.Now().Add(24 * time.Hour)}}})
		time.Sleep(21 * time.Second)
		w.expect("1 success", w.verdict(model.Readiness))
	})
}
