package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/agent/podplan"
	"nodelet/cri"
	"nodelet/internal/model"
)

// parallelRemovals bounds the calls of one plan that run side by side.
const parallelRemovals = 8

// job is a plan to carry out for one pod.
type job struct {
	uid  model.UID
	pod  *corev1.Pod       // nil: gone from the API
	rt   *model.PodRuntime // nil: nothing in the runtime
	plan podplan.Plan
}

// errNoted marks a failure that is kept in the notes: the next plan takes it into account.
var errNoted = errors.New("noted")

// execute carries out a plan. What depends on nothing runs side by side, what
// creates containers in order. again: a failure was noted, so plan anew at once.
func (a *Agent) execute(ctx context.Context, j job) (again bool, err error) {
	var side errgroup.Group
	side.SetLimit(parallelRemovals)
	var errs []error
	acted := false
	for _, action := range j.plan.Actions {
		a.deps.Log.Debug("act", "pod", j.uid, "action", action)
		switch action.(type) {
		case podplan.CreateSandbox, podplan.CreateContainer, podplan.StartContainer:
			acted = true
			errs = append(errs, a.act(ctx, j, action))
		case podplan.StopSandbox, podplan.RemoveSandbox, podplan.RemoveContainer:
			acted = true
			side.Go(func() error { return a.act(ctx, j, action) })
		default:
			errs = append(errs, a.act(ctx, j, action))
		}
	}
	errs = append(errs, side.Wait())
	if acted {
		errs = append(errs, a.look(ctx, j.uid))
	}
	var left []error
	for _, e := range errs {
		if errors.Is(e, errNoted) {
			again = true
		} else if e != nil {
			left = append(left, e)
		}
	}
	return again, errors.Join(left...)
}

// look observes a pod that was just acted upon. Until that has worked once,
// nothing else is decided about it.
func (a *Agent) look(ctx context.Context, uid model.UID) error {
	a.observer.doubt(uid)
	if err := a.observer.pod(ctx, uid); err != nil {
		return fmt.Errorf("observe pod %s: %w", uid, err)
	}
	return nil
}

// act is the switch over all actions.
func (a *Agent) act(ctx context.Context, j job, action podplan.Action) error {
	switch x := action.(type) {
	case podplan.CreateSandbox:
		return a.createSandbox(ctx, j, x)
	case podplan.StopSandbox:
		_, err := a.deps.Runtime.StopPodSandbox(ctx, &runtimev1.StopPodSandboxRequest{PodSandboxId: x.ID})
		return a.killed(ctx, j, gone(err))
	case podplan.RemoveSandbox:
		_, err := a.deps.Runtime.RemovePodSandbox(ctx, &runtimev1.RemovePodSandboxRequest{PodSandboxId: x.ID})
		return gone(err)
	case podplan.EnsureImage:
		a.deps.EnsureImage(ctx, ImageRequest{Pod: j.pod, Container: x.Container, Image: x.Image, Policy: x.Policy, Attempt: x.Attempt})
		return nil
	case podplan.CreateContainer:
		return a.createContainer(ctx, j, x)
	case podplan.StartContainer:
		return a.startContainer(ctx, j, x)
	case podplan.Resize:
		return a.resize(ctx, j, x)
	case podplan.PreStop:
		a.preStop(j, x)
		return nil
	case podplan.KillContainer:
		a.kill(j, x)
		return nil
	case podplan.RemoveContainer:
		_, err := a.deps.Runtime.RemoveContainer(ctx, &runtimev1.RemoveContainerRequest{ContainerId: x.ID})
		if err = gone(err); err == nil {
			a.files.removeLog(x.LogPath, x.ID)
		}
		return err
	case podplan.ReleaseClaims:
		a.deps.ReleaseClaims(ctx, x.UID)
		return nil
	case podplan.DeletePodObject:
		return a.deletePod(ctx, x)
	case podplan.ForgetPod:
		return a.forget(x.UID)
	}
	return fmt.Errorf("action %v has no arm", action)
}

// gone takes "not found" for success: somebody else removed it.
func gone(err error) error {
	if errors.Is(err, cri.ErrNotFound) {
		return nil
	}
	return err
}

// killed tells of a kill that failed.
func (a *Agent) killed(ctx context.Context, j job, err error) error {
	if err != nil && ctx.Err() == nil {
		a.event(j.pod, "", warning("FailedKillPod", "error killing pod: "+err.Error()))
	}
	return err
}

func (a *Agent) createSandbox(ctx context.Context, j job, x podplan.CreateSandbox) error {
	if x.Changed {
		a.event(j.pod, "", normal("SandboxChanged", "Pod sandbox changed, it will be killed and re-created."))
	}
	reason, what := "FailedCreatePodContainer", "unable to ensure pod container exists: "
	err := a.deps.EnsureCgroup(x.Pod)
	if err == nil {
		reason, what = "FailedCreatePodSandBox", "Failed to create pod sandbox: "
		a.notes.edit(j.uid, func(p *podNotes) { p.Cgroup = podplan.CgroupOf(x.Pod) })
		err = a.files.makeLogDir(x.Config.LogDirectory)
	}
	if err == nil {
		began := time.Now()
		_, err = a.deps.Runtime.RunPodSandbox(ctx, &runtimev1.RunPodSandboxRequest{Config: x.Config, RuntimeHandler: x.Handler})
		a.deps.Metrics.Sandbox(x.Handler, time.Since(began), err)
	}
	if err == nil {
		a.notes.succeeded(j.uid, "")
		var seen time.Time
		a.notes.edit(j.uid, func(p *podNotes) { seen = p.seen })
		a.deps.Metrics.Started(time.Since(seen))
		return nil
	}
	if a.fail(ctx, j, "", reason, err) {
		a.event(j.pod, "", warning(reason, what+err.Error()))
	}
	return errNoted
}

// fail notes a call that left nothing to observe; false when it failed only
// because the pod's worker was interrupted, or because an earlier request for
// the same name is still under way.
func (a *Agent) fail(ctx context.Context, j job, container, reason string, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	_, reserved := cri.NameReserved(err)
	a.notes.failed(j.uid, container, podplan.Failure{Reason: reason, Message: err.Error(), At: time.Now()}, reserved)
	a.deps.Log.Warn("act on pod", "pod", podName(j), "container", container, "reason", reason, "err", err)
	return !reserved
}

func podName(j job) string {
	switch {
	case j.pod != nil:
		return j.pod.Namespace + "/" + j.pod.Name
	case j.rt != nil:
		return j.rt.Pod.String()
	}
	return j.uid.String()
}

func (a *Agent) deletePod(ctx context.Context, x podplan.DeletePodObject) error {
	if err := a.deps.RemoveCgroup(x.UID); err != nil {
		return fmt.Errorf("remove cgroup of pod %s: %w", x.Key, err)
	}
	if err := a.deps.API.DeletePod(ctx, x.Key, x.UID); err != nil && !absent(err) {
		return fmt.Errorf("delete pod %s: %w", x.Key, err)
	}
	return nil
}

// forget removes the last traces of a pod.
func (a *Agent) forget(uid model.UID) error {
	a.files.removePod(uid)
	a.notes.forget(uid)
	a.reports.forget(uid)
	a.deps.Timeline.Gone(uid, time.Now())
	if err := a.deps.RemoveCgroup(uid); err != nil {
		return fmt.Errorf("remove cgroup of pod %s: %w", uid, err)
	}
	return nil
}
