package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/agent/admission"
	"nodelet/agent/podplan"
	"nodelet/cri"
	"nodelet/internal/model"
)

// resize brings the limits of a running pod to what it was granted. What
// fails is noted and shows as a condition; the next plan goes on from there.
func (a *Agent) resize(ctx context.Context, j job, x podplan.Resize) error {
	err := a.enoughMemory(x)
	if err == nil {
		err = a.changeLimits(ctx, j, x)
	}
	if len(x.Containers) > 0 {
		if lookErr := a.look(ctx, j.uid); err == nil && lookErr != nil {
			return lookErr
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	fresh := false
	a.notes.edit(j.uid, func(p *podNotes) {
		p.fresh = true
		if err == nil {
			p.Cgroup, p.Resize = x.Cgroup, podplan.Failure{}
			return
		}
		fresh = p.Resize.Message != err.Error()
		p.Resize = podplan.Failure{Message: err.Error(), At: time.Now(), Count: p.Resize.Count + 1, Generation: x.Generation}
	})
	if err == nil {
		return nil
	}
	if fresh {
		a.deps.Log.Warn("resize pod", "pod", podName(j), "err", err)
		a.event(j.pod, "", warning("ResizeError", admission.ResizeError(x.Pod, err.Error())))
	}
	return errNoted
}

// enoughMemory refuses limits below what is in use: the kernel would kill for them.
func (a *Agent) enoughMemory(x podplan.Resize) error {
	var errs []string
	check := func(what, id string, limit int64) {
		used, err := a.deps.MemoryUsage(x.Pod, id)
		switch {
		case err != nil:
			errs = append(errs, fmt.Sprintf("read memory usage of %s: %v", what, err))
		case used >= uint64(limit):
			errs = append(errs, fmt.Sprintf("attempting to set %s memory limit (%d) below current usage (%d)", what, limit, used))
		}
	}
	less := false
	for _, c := range x.Containers {
		if c.Less {
			less = true
			check(fmt.Sprintf("container %q", c.Name), c.ID, c.Resources.GetMemoryLimitInBytes())
		}
	}
	if less && x.MemoryLimit > 0 {
		check("pod", "", x.MemoryLimit)
	}
	if len(errs) > 0 {
		return errors.New("cannot decrease memory limits: " + strings.Join(errs, ", "))
	}
	return nil
}

func (a *Agent) changeLimits(ctx context.Context, j job, x podplan.Resize) error {
	if err := a.announceResize(ctx, x); err != nil {
		return err
	}
	if len(x.Containers) > 0 || x.Keep {
		if err := a.deps.GrowCgroup(x.Pod); err != nil {
			return fmt.Errorf("grow cgroup of pod: %w", err)
		}
	}
	for _, c := range x.Containers {
		a.observer.alter(c.ID, true)
		_, err := a.deps.Runtime.UpdateContainerResources(ctx, &runtimev1.UpdateContainerResourcesRequest{ContainerId: c.ID, Linux: c.Resources})
		if errors.Is(err, cri.ErrNotFound) {
			continue // it is gone: the next one is made with these limits
		}
		if err != nil {
			return fmt.Errorf("update resources of container %s: %w", c.Name, err)
		}
		a.notes.container(j.uid, c.ID, func(n *podplan.ContainerNote) {
			r := c.Resources
			n.Resized = model.Resources{CPUShares: r.CpuShares, CPUQuota: r.CpuQuota, CPUPeriod: r.CpuPeriod, MemoryLimit: r.MemoryLimitInBytes}
		})
	}
	if x.Keep {
		return nil
	}
	if err := a.deps.EnsureCgroup(x.Pod); err != nil {
		return fmt.Errorf("set cgroup of pod: %w", err)
	}
	return nil
}

// announceResize tells the runtime what the pod as a whole is about to have, so that what is plugged into it
// may refuse. A runtime that knows no such call has nothing to say.
func (a *Agent) announceResize(ctx context.Context, x podplan.Resize) error {
	_, err := a.deps.Runtime.UpdatePodSandboxResources(ctx, &runtimev1.UpdatePodSandboxResourcesRequest{
		PodSandboxId: x.Sandbox, Resources: x.Resources, Overhead: x.Overhead,
	})
	switch {
	case err == nil, errors.Is(err, cri.ErrUnimplemented), errors.Is(err, cri.ErrNotFound):
		return nil
	case strings.Contains(err.Error(), "not implemented"): // containerd 2.2 says it like that
		return nil
	}
	return fmt.Errorf("announce resize to the runtime: %w", err)
}

// tellResize reports the end of a resize, also of one that an earlier process began.
func (a *Agent) tellResize(pod *corev1.Pod, status *corev1.PodStatus) {
	if pod == nil || status == nil {
		return
	}
	now, before := resizes(status), false
	a.notes.edit(model.UID(pod.UID), func(p *podNotes) {
		if p.resizing == nil {
			began := resizes(&pod.Status)
			p.resizing = &began
		}
		before = *p.resizing
		*p.resizing = now
	})
	if before && !now && status.Phase == corev1.PodRunning {
		a.event(pod, "", normal("ResizeCompleted", admission.ResizeCompleted(pod)))
	}
}

func resizes(s *corev1.PodStatus) bool {
	for _, c := range s.Conditions {
		if c.Type == corev1.PodResizeInProgress {
			return true
		}
	}
	return false
}
