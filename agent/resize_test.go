package agent

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"

	"nodelet/agent/admission"
	"nodelet/cri/critest"
	"nodelet/internal/model"
)

func resources(cpu, memory string) corev1.ResourceRequirements {
	list := corev1.ResourceList{corev1.ResourceCPU: apiresource.MustParse(cpu), corev1.ResourceMemory: apiresource.MustParse(memory)}
	return corev1.ResourceRequirements{Requests: list, Limits: list}
}

// ask changes the resources of the first container as the resize subresource does.
func (w *world) ask(uid model.UID, r corev1.ResourceRequirements) {
	w.edit(uid, func(p *corev1.Pod) {
		p.Generation++
		p.Spec.Containers[0].Resources = r
	})
}

// has: the status says that the first container has these resources, and no resize is under way.
func (w *world) has(uid model.UID, r corev1.ResourceRequirements) bool {
	pod := w.get(uid)
	s := pod.Status.ContainerStatuses[0]
	if condition(pod, corev1.PodResizeInProgress) == corev1.ConditionTrue || s.Resources == nil || s.State.Running == nil {
		return false
	}
	return s.Resources.Limits.Memory().Cmp(*r.Limits.Memory()) == 0 && s.Resources.Requests.Cpu().Cmp(*r.Requests.Cpu()) == 0 &&
		s.AllocatedResources.Memory().Cmp(*r.Requests.Memory()) == 0
}

func (w *world) told(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.events, func(e string) bool { return strings.Contains(e, text) })
}

func TestResize(t *testing.T) {
	in(t, quiet, func(w *world) {
		uid := w.run(pod("a", corev1.Container{Name: "c", Resources: resources("100m", "100Mi")}))
		more := resources("200m", "300Mi")
		w.ask(uid, more)
		w.await("resized", time.Minute, func() bool { return w.has(uid, more) && w.told("ResizeCompleted") })
		for i, s := range w.history[uid] {
			// Whoever sees generation 2 observed and no resize under way must find it done.
			if s.ObservedGeneration == 2 && !resizes(&s) && s.ContainerStatuses[0].Resources.Limits.Memory().Value() != 300<<20 {
				t.Errorf("status %d claims generation 2 before its resources were granted", i)
			}
		}
		got := w.container("c").GetResources().GetLinux()
		if got.GetMemoryLimitInBytes() != 300<<20 || got.GetCpuQuota() != 20_000 || got.GetCpuShares() != 204 {
			t.Errorf("the runtime has %v", got)
		}
		if n := w.get(uid).Status.ContainerStatuses[0].RestartCount; n != 0 {
			t.Errorf("%d restarts", n)
		}
		if !w.told("ResizeStarted") {
			t.Error("nobody was told that the resize began")
		}
		w.kill()
		w.start()
		w.await("the same after a restart", time.Minute, func() bool { return w.ready(uid) && w.has(uid, more) })
	})
}

func TestResizeByRestart(t *testing.T) {
	in(t, quiet, func(w *world) {
		p := pod("a", corev1.Container{Name: "c", Resources: resources("100m", "100Mi"), ResizePolicy: []corev1.ContainerResizePolicy{
			{ResourceName: corev1.ResourceMemory, RestartPolicy: corev1.RestartContainer},
		}})
		uid := w.run(p)
		for i, memory := range []string{"200Mi", "300Mi"} {
			began := time.Now()
			w.ask(uid, resources("100m", memory))
			w.await("resized", time.Minute, func() bool {
				return w.has(uid, resources("100m", memory)) && w.get(uid).Status.ContainerStatuses[0].RestartCount == int32(i)+1
			})
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("resize %d took %s: a restart for it is no crash", i, took)
			}
		}
	})
}

// A limit below what is in use waits, and says so; taken back, nothing is left of it.
func TestResizeBelowUsage(t *testing.T) {
	in(t, quiet, func(w *world) {
		w.mu.Lock()
		w.used = 50 << 20
		w.mu.Unlock()
		before := resources("100m", "100Mi")
		uid := w.run(pod("a", corev1.Container{Name: "c", Resources: before}))
		w.ask(uid, resources("100m", "10Mi"))
		w.await("condition", time.Minute, func() bool {
			for _, c := range w.get(uid).Status.Conditions {
				if c.Type == corev1.PodResizeInProgress {
					return c.Reason == corev1.PodReasonError && strings.Contains(c.Message, "memory limit (10485760) below current usage (52428800)")
				}
			}
			return false
		})
		if got := w.container("c").GetResources().GetLinux().GetMemoryLimitInBytes(); got != 100<<20 {
			t.Errorf("the limit is %d", got)
		}
		w.ask(uid, before)
		w.await("taken back", time.Minute, func() bool { return w.has(uid, before) })
	})
}

// A resize that does not fit waits for room, across a restart too, and then is granted.
func TestResizeWaitsForRoom(t *testing.T) {
	in(t, quiet, func(w *world) {
		w.mu.Lock()
		w.room = admission.Node{Allocatable: resources("1", "1Gi").Requests}
		w.mu.Unlock()
		w.kill()
		w.start()
		before, more := resources("400m", "100Mi"), resources("700m", "100Mi")
		a := w.run(pod("a", corev1.Container{Name: "c", Resources: before}))
		b := w.run(pod("b", corev1.Container{Name: "c", Resources: before}))
		w.ask(a, more)
		w.await("put off", time.Minute, func() bool { return condition(w.get(a), corev1.PodResizePending) == corev1.ConditionTrue })
		if !w.has(a, before) {
			t.Errorf("it has other resources already\n%s", w)
		}
		w.kill()
		w.start()
		w.await("still put off", time.Minute, func() bool { return w.ready(a) && w.has(a, before) })
		w.delete(b, 0)
		w.await("granted", time.Minute, func() bool {
			return w.has(a, more) && condition(w.get(a), corev1.PodResizePending) != corev1.ConditionTrue
		})
	})
}

func TestRejected(t *testing.T) {
	in(t, quiet, func(w *world) {
		w.mu.Lock()
		w.room = admission.Node{Allocatable: resources("1", "1Gi").Requests}
		w.mu.Unlock()
		w.kill()
		w.start()
		p := pod("a", corev1.Container{Name: "c", Resources: resources("2", "1Mi")})
		w.put(p)
		w.await("failed", time.Minute, func() bool {
			s := w.get(model.UID(p.UID)).Status
			return s.Phase == corev1.PodFailed && s.Reason == "OutOfcpu"
		})
		if !w.empty() || !w.told("OutOfcpu") {
			t.Errorf("something was made of it, or nobody was told\n%s", w)
		}
	})
}

// The runtime refuses the new limits for a while: it is tried again.
func TestResizeRefused(t *testing.T) {
	in(t, quiet, func(w *world) {
		w.mu.Lock()
		w.cgroup = func(n int) error {
			if n > 1 && n < 5 {
				return errors.New("no")
			}
			return nil
		}
		w.mu.Unlock()
		uid := w.run(pod("a", corev1.Container{Name: "c", Resources: resources("100m", "100Mi")}))
		more := resources("100m", "200Mi")
		w.ask(uid, more)
		w.await("resized at last", time.Minute, func() bool { return w.has(uid, more) })
		if !w.told("ResizeError") {
			t.Error("nobody was told of the failures")
		}
	})
}

// The runtime is told what the pod as a whole is to have before any limit changes. Its no counts; that it
// knows no such call does not.
func TestResizeIsAnnounced(t *testing.T) {
	for name, c := range map[string]struct {
		answer error
		done   bool
	}{
		"taken":          {nil, true},
		"unknown call":   {status.Error(codes.Unimplemented, "unknown method"), true},
		"containerd 2.2": {status.Error(codes.Unknown, "not implemented yet"), true},
		"refused":        {status.Error(codes.Unknown, "a plugin says no"), false},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, quiet, func(w *world) {
				uid := w.run(pod("a", corev1.Container{Name: "c", Resources: resources("100m", "100Mi")}))
				if c.answer != nil {
					w.runtime.Inject(critest.Fault{Op: "UpdatePodSandboxResources", Kind: critest.Refuse, Err: c.answer, Times: -1})
				}
				more := resources("200m", "300Mi")
				w.ask(uid, more)
				if !c.done {
					w.await("the refusal", time.Minute, func() bool { return w.told("a plugin says no") })
					if got := w.container("c").GetResources().GetLinux().GetMemoryLimitInBytes(); got != 100<<20 {
						t.Errorf("the container has %d bytes", got)
					}
					return
				}
				w.await("resized", time.Minute, func() bool { return w.has(uid, more) })
				r := w.runtime.Announced(w.runtime.Sandboxes()[0].GetId())
				if c.answer == nil && (r.GetMemoryLimitInBytes() != 300<<20 || r.GetCpuQuota() != 20_000 || r.GetCpuShares() != 204) {
					t.Errorf("announced %v", r)
				}
			})
		})
	}
}
