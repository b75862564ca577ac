package server

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/model"
	"nodelet/internal/store"
)

// hasContainer tells whether a pod's spec has a container of any sort by that name.
func hasContainer(p *corev1.Pod, name string) bool { return containerSpec(p, name) != nil }

// containerSpec finds a container of any sort; nil when there is none.
func containerSpec(p *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	for i := range p.Spec.EphemeralContainers {
		if e := &p.Spec.EphemeralContainers[i]; e.Name == name {
			c := corev1.Container(e.EphemeralContainerCommon)
			return &c
		}
	}
	return nil
}

// containerStatus finds the status of a container; nil when there is none.
func containerStatus(p *corev1.Pod, name string) *corev1.ContainerStatus {
	for _, list := range [][]corev1.ContainerStatus{p.Status.ContainerStatuses, p.Status.InitContainerStatuses, p.Status.EphemeralContainerStatuses} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// chooseContainer finds the container whose log is meant: the newest that has run, or with previous
// the one before it. The messages are those kubectl users know.
func chooseContainer(snap *store.Snapshot, p *corev1.Pod, name string, previous bool) (*model.Container, error) {
	rt, _ := snap.Runtime.Get(model.UID(p.UID))
	var ran []*model.Container // newest first
	if rt != nil {
		for i := range rt.Containers {
			c := &rt.Containers[i]
			if c.Name == name && c.LogPath != "" && (c.State == model.ContainerRunning || c.State == model.ContainerExited) {
				ran = append(ran, c)
			}
		}
	}
	status := containerStatus(p, name)
	if previous {
		if c := before(ran, status); c != nil {
			return c, nil
		}
		return nil, fmt.Errorf("previous terminated container %q in pod %q not found", name, p.Name)
	}
	if len(ran) > 0 {
		return ran[0], nil
	}
	if status == nil || status.State.Waiting == nil {
		return nil, fmt.Errorf("container %q in pod %q is waiting to start - no logs yet", name, p.Name)
	}
	switch reason := status.State.Waiting.Reason; reason {
	case "ErrImagePull":
		return nil, fmt.Errorf("container %q in pod %q is waiting to start: image can't be pulled", name, p.Name)
	case "ImagePullBackOff":
		return nil, fmt.Errorf("container %q in pod %q is waiting to start: trying and failing to pull image", name, p.Name)
	default:
		return nil, fmt.Errorf("container %q in pod %q is waiting to start: %s", name, p.Name, reason)
	}
}

// before finds the container before the present one. A container that waits to be started again has
// none that is present: then the newest is the previous one.
func before(ran []*model.Container, status *corev1.ContainerStatus) *model.Container {
	if len(ran) == 0 {
		return nil
	}
	waiting := status != nil && status.State.Waiting != nil
	if waiting && ran[0].State == model.ContainerExited {
		return ran[0]
	}
	i := slices.IndexFunc(ran[1:], func(c *model.Container) bool { return c.State == model.ContainerExited })
	if i < 0 {
		return nil
	}
	return ran[1+i]
}

// runningContainer finds the container that runs under a name.
func runningContainer(snap *store.Snapshot, p *corev1.Pod, name string) (*model.Container, error) {
	rt, ok := snap.Runtime.Get(model.UID(p.UID))
	if ok {
		for i := range rt.Containers {
			if c := &rt.Containers[i]; c.Name == name && c.State == model.ContainerRunning {
				return c, nil
			}
		}
	}
	return nil, fmt.Errorf("container not found (%q)", name)
}

// readySandbox finds the sandbox of a pod that runs.
func readySandbox(snap *store.Snapshot, p *corev1.Pod) (*model.Sandbox, error) {
	rt, ok := snap.Runtime.Get(model.UID(p.UID))
	if ok {
		for i := range rt.Sandboxes {
			if sb := &rt.Sandboxes[i]; sb.Ready {
				return sb, nil
			}
		}
	}
	return nil, fmt.Errorf("pod not found (%q)", p.Namespace+"/"+p.Name)
}
