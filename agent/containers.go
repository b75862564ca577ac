package agent

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/agent/podplan"
	"nodelet/internal/model"
)

// createContainer creates a container and starts it, without looking in between.
func (a *Agent) createContainer(ctx context.Context, j job, x podplan.CreateContainer) error {
	name := x.Config.GetMetadata().GetName()
	if err := a.prepare(ctx, j, x); err != nil {
		if a.fail(ctx, j, name, podplan.ReasonConfigError, err) {
			a.event(j.pod, name, warning("Failed", "Error: "+err.Error()))
		}
		return errNoted
	}
	resp, err := a.deps.Runtime.CreateContainer(ctx, &runtimev1.CreateContainerRequest{
		PodSandboxId: x.SandboxID, Config: x.Config, SandboxConfig: x.SandboxConfig,
	})
	if err != nil {
		a.deps.Metrics.Container(kindLabel(j.pod, name), podplan.ReasonCreateError)
		if a.fail(ctx, j, name, podplan.ReasonCreateError, err) {
			a.event(j.pod, name, warning("Failed", "Error: "+err.Error()))
		}
		return errNoted
	}
	a.event(j.pod, name, normal("Created", "Container created"))
	return a.startContainer(ctx, j, podplan.StartContainer{
		ID: resp.GetContainerId(), Name: name, PostStart: x.PostStart,
		LogPath: a.files.logPath(x.SandboxConfig.GetLogDirectory(), x.Config.GetLogPath()),
	})
}

// prepare makes what a container needs on the host.
func (a *Agent) prepare(ctx context.Context, j job, x podplan.CreateContainer) error {
	for _, s := range x.SubPaths {
		place, err := a.deps.BindSubPath(ctx, SubPath{
			UID: j.uid, Container: x.Config.GetMetadata().GetName(), Index: s.Index, Volume: s.Volume, Path: s.Path,
		})
		if err != nil {
			return err
		}
		x.Config.Mounts[s.Index].HostPath = place
	}
	if err := a.files.prepare(x.Files); err != nil {
		return err
	}
	if err := fillEnv(x.EnvFiles, x.Config); err != nil {
		return err
	}
	return a.deps.PreStart(ctx, j.uid, x.Config.GetMetadata().GetName())
}

func (a *Agent) startContainer(ctx context.Context, j job, x podplan.StartContainer) error {
	if x.PostStart != nil {
		// Noted before it runs, so that it is never seen running without its hook.
		a.notes.container(j.uid, x.ID, func(c *podplan.ContainerNote) { c.PostStart = true })
	}
	_, err := a.deps.Runtime.StartContainer(ctx, &runtimev1.StartContainerRequest{ContainerId: x.ID})
	if err != nil {
		a.notes.container(j.uid, x.ID, func(c *podplan.ContainerNote) { c.PostStart = false })
		a.deps.Metrics.Container(kindLabel(j.pod, x.Name), podplan.ReasonRunError)
		if a.fail(ctx, j, x.Name, podplan.ReasonRunError, err) {
			a.event(j.pod, x.Name, warning("Failed", "Error: "+err.Error()))
		}
		return errNoted
	}
	a.notes.succeeded(j.uid, x.Name)
	a.deps.Metrics.Container(kindLabel(j.pod, x.Name), "")
	a.event(j.pod, x.Name, normal("Started", "Container started"))
	a.files.linkLog(j.pod, x.Name, x.ID, x.LogPath)
	if x.PostStart != nil {
		a.postStart(j, x)
	}
	return nil
}

// postStart runs the hook beside the worker. A container whose hook fails is killed.
func (a *Agent) postStart(j job, x podplan.StartContainer) {
	grace := podplan.Grace(j.pod)
	a.flights.launch(j.uid, x.ID, flight{kind: "postStart"}, func(ctx context.Context) {
		err := a.deps.RunHook(ctx, a.hook(j, x.ID, x.Name, x.PostStart))
		if err != nil && ctx.Err() == nil {
			a.event(j.pod, x.Name, warning("FailedPostStartHook", "PostStartHook failed"))
			a.event(j.pod, x.Name, normal("Killing", "FailedPostStartHook"))
			a.notes.failed(j.uid, x.Name, podplan.Failure{Reason: podplan.ReasonPostStartError, Message: "PostStartHook failed", At: time.Now()}, false)
			a.stop(ctx, j, x.ID, grace)
		}
		a.notes.container(j.uid, x.ID, func(c *podplan.ContainerNote) { c.PostStart = false })
	})
}

func (a *Agent) hook(j job, id, container string, h *corev1.LifecycleHandler) Hook {
	ip := ""
	if rt := a.latest(j.uid); rt != nil && len(rt.Sandboxes) > 0 {
		ips := rt.Sandboxes[0].IPs
		if rt.Sandboxes[0].HostNetwork {
			ips = a.deps.Node().IPs
		}
		if len(ips) > 0 {
			ip = ips[0].String()
		}
	}
	return Hook{UID: j.uid, Pod: j.pod, Container: container, ContainerID: id, PodIP: ip, Handler: h}
}

func (a *Agent) latest(uid model.UID) *model.PodRuntime {
	rt, _ := a.deps.Store.Snapshot().Runtime.Get(uid)
	return rt
}

// preStop runs the hook beside the worker; when it is over, however, the container may be killed.
func (a *Agent) preStop(j job, x podplan.PreStop) {
	deadline := time.Now().Add(x.Within)
	a.noteStopping(j, x.ID, x.Name, x.Why)
	over := func() bool { return a.notes.of(j.uid).Containers[x.ID].PreStopDone }
	a.flights.launch(j.uid, x.ID, flight{kind: "preStop", deadline: deadline, over: over}, func(ctx context.Context) {
		limited, cancel := context.WithDeadline(ctx, deadline)
		defer cancel()
		err := a.deps.RunHook(limited, a.hook(j, x.ID, x.Name, x.Handler))
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			a.event(j.pod, x.Name, warning("FailedPreStopHook", "PreStopHook failed"))
			a.deps.Log.Warn("run preStop hook", "pod", podName(j), "container", x.Name, "err", err)
		}
		a.notes.container(j.uid, x.ID, func(c *podplan.ContainerNote) { c.PreStopDone = true })
	})
}

// kill stops a container beside the worker.
func (a *Agent) kill(j job, x podplan.KillContainer) {
	a.noteStopping(j, x.ID, x.Name, x.Why)
	a.observer.expectEnd(j.uid, x.ID)
	deadline := time.Now().Add(x.Grace)
	a.flights.launch(j.uid, x.ID, flight{kind: "kill", deadline: deadline}, func(ctx context.Context) {
		a.stop(ctx, j, x.ID, x.Grace)
	})
}

// noteStopping tells of the end of a container, once.
func (a *Agent) noteStopping(j job, id, name string, why podplan.Why) {
	first := false
	a.notes.container(j.uid, id, func(c *podplan.ContainerNote) {
		if first = c.Stopping.IsZero(); first {
			c.Stopping = time.Now()
		}
	})
	if first {
		a.event(j.pod, name, normal("Killing", why.Message))
		a.deps.Log.Info("stop container", "pod", podName(j), "container", name, "id", id, "reason", why.Reason)
	}
}

// stopRetry is the wait before a container is stopped again after the call failed.
const stopRetry = 200 * time.Millisecond

// stop asks the runtime to stop a container and looks at the pod afterwards.
// On failure the next plan asks again, with what is left of the grace period.
func (a *Agent) stop(ctx context.Context, j job, id string, grace time.Duration) {
	timeout := int64((grace + time.Second - 1) / time.Second)
	_, err := a.deps.Runtime.StopContainer(ctx, &runtimev1.StopContainerRequest{ContainerId: id, Timeout: timeout})
	if err = gone(err); err == nil {
		err = a.look(ctx, j.uid)
	} else {
		err = fmt.Errorf("stop container: %w", err)
	}
	if err == nil || ctx.Err() != nil {
		return
	}
	a.deps.Log.Warn("stop container", "pod", podName(j), "id", id, "err", a.killed(ctx, j, err))
	wait := time.NewTimer(stopRetry)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
	}
}
