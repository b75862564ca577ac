package agent

import (
	"context"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"nodelet/cri/critest"
	"nodelet/internal/model"
)

// prompt is how long a pod may take that has nothing to do with what hangs.
const prompt = 3 * time.Second

// others checks that a pod comes up, restarts and goes while something else hangs.
func (w *world) others() {
	w.t.Helper()
	fine := pod("fine", corev1.Container{Name: "free"})
	uid := model.UID(fine.UID)
	w.put(fine)
	w.await("another pod ready", prompt, func() bool { return w.ready(uid) })
	w.runtime.Exit(w.container("free").GetId(), 1)
	w.await("another pod restarted", prompt, func() bool {
		return w.ready(uid) && w.get(uid).Status.ContainerStatuses[0].RestartCount == 1
	})
	w.delete(uid, 1)
	w.await("another pod gone", prompt, func() bool { return w.get(uid) == nil })
}

// One call that never returns holds up its own pod only.
func TestHungCallHoldsUpNobody(t *testing.T) {
	for _, op := range []string{"RunPodSandbox", "PodSandboxStatus", "CreateContainer", "StartContainer", "ContainerStatus"} {
		t.Run(op, func(t *testing.T) {
			in(t, quiet, func(w *world) {
				w.runtime.Inject(critest.Fault{Op: op, Key: "ns/stuck", Kind: critest.Hang, Times: -1})
				w.put(pod("stuck", corev1.Container{Name: "c"}))
				w.others()
				w.kill()
				w.start() // nor does it hold up a daemon's start
				w.others()
			})
		})
	}
	for _, op := range []string{"StopContainer", "StopPodSandbox", "RemovePodSandbox", "UpdateContainerResources", "UpdatePodSandboxResources"} {
		t.Run(op, func(t *testing.T) {
			in(t, quiet, func(w *world) {
				uid := w.run(pod("stuck", corev1.Container{Name: "c", Resources: resources("100m", "100Mi")}))
				w.runtime.Inject(critest.Fault{Op: op, Key: "ns/stuck", Kind: critest.Hang, Times: -1})
				if strings.HasPrefix(op, "Update") {
					w.ask(uid, resources("200m", "100Mi"))
				} else {
					w.delete(uid, 1)
				}
				w.others()
				w.kill()
				w.start()
				w.others()
			})
		})
	}
}

func TestHungHookHoldsUpNobody(t *testing.T) {
	in(t, quiet, func(w *world) {
		w.kill()
		w.hook = func(ctx context.Context, _ Hook) error {
			<-ctx.Done()
			return ctx.Err()
		}
		w.start()
		hooks := &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{}, PreStop: &corev1.LifecycleHandler{}}
		w.put(pod("stuck", corev1.Container{Name: "c", Lifecycle: hooks}))
		w.others()
		w.delete("uid-stuck", 600)
		w.others()
	})
}

func TestRestartAllContainers(t *testing.T) {
	in(t, quiet, func(w *world) {
		never := corev1.ContainerRestartPolicyNever
		p := pod("a",
			corev1.Container{Name: "c", RestartPolicy: &never, RestartPolicyRules: []corev1.ContainerRestartRule{{
				Action:    corev1.ContainerRestartRuleActionRestartAllContainers,
				ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: corev1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{42}},
			}}},
			corev1.Container{Name: "d"})
		uid := w.run(p)
		sandbox := w.runtime.Sandboxes()[0].GetId()
		w.runtime.Exit(w.container("c").GetId(), 42)
		w.await("started over", time.Minute, func() bool {
			s := w.get(uid).Status
			return w.ready(uid) && s.ContainerStatuses[0].RestartCount == 1 && s.ContainerStatuses[1].RestartCount == 1 &&
				condition(w.get(uid), corev1.AllContainersRestarting) == corev1.ConditionFalse
		})
		if all := w.runtime.Sandboxes(); len(all) != 1 || all[0].GetId() != sandbox {
			t.Errorf("the sandbox did not stay\n%s", w)
		}
		for _, s := range w.history[uid] {
			if s.Phase == corev1.PodFailed || s.Phase == corev1.PodSucceeded {
				t.Errorf("phase %s in between", s.Phase)
			}
		}
	})
}
