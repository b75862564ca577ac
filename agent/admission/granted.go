package admission

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"nodelet/internal/model"
)

// Granted is the pod with the resources it was granted in place of those it
// asks for. Without a difference it is the pod itself.
func Granted(pod *corev1.Pod, row *model.Allocation) *corev1.Pod {
	if row == nil || row.Containers == nil || (row.Generation == pod.Generation && row.Pending == nil) || sameResources(pod, row) {
		return pod
	}
	out := *pod
	out.Spec.Resources = row.Pod
	out.Spec.InitContainers = withResources(pod.Spec.InitContainers, row.Containers)
	out.Spec.Containers = withResources(pod.Spec.Containers, row.Containers)
	return &out
}

func withResources(all []corev1.Container, granted map[string]corev1.ResourceRequirements) []corev1.Container {
	out := append([]corev1.Container(nil), all...)
	for i := range out {
		if r, ok := granted[out[i].Name]; ok {
			out[i].Resources = r
		}
	}
	return out
}

// sameResources: the pod asks for just what it was granted.
func sameResources(pod *corev1.Pod, row *model.Allocation) bool {
	if !equality.Semantic.DeepEqual(pod.Spec.Resources, row.Pod) {
		return false
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if !equality.Semantic.DeepEqual(list[i].Resources, row.Containers[list[i].Name]) {
				return false
			}
		}
	}
	return true
}

// wantsMore: the pod asks for other resources than it was granted, and may still get them.
func wantsMore(pod *corev1.Pod, row *model.Allocation) bool {
	if pod.DeletionTimestamp != nil {
		return false
	}
	return row.Pending != nil || row.Generation != pod.Generation
}

// grant is the row of a pod that gets what it asks for.
func grant(pod *corev1.Pod) *model.Allocation {
	row := &model.Allocation{
		UID: model.UID(pod.UID), Generation: pod.Generation, Pod: pod.Spec.Resources,
		Containers: map[string]corev1.ResourceRequirements{},
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			row.Containers[list[i].Name] = list[i].Resources
		}
	}
	return row
}

// adopt is the row of a pod that was taken before this process began. When the
// status stands for the present generation and nothing was pending, that is all
// the pod asks for. Otherwise the status tells what was granted: requests in
// allocatedResources, limits in resources.
func adopt(pod *corev1.Pod) *model.Allocation {
	row := grant(pod)
	s := &pod.Status
	pending := find(s.Conditions, corev1.PodResizePending)
	if (s.ObservedGeneration == 0 || s.ObservedGeneration >= pod.Generation) && pending == nil {
		if c := find(s.Conditions, corev1.PodResizeInProgress); c != nil {
			row.Generation = c.ObservedGeneration
		}
		return row
	}
	row.Generation = s.ObservedGeneration
	for _, list := range [][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses} {
		for i := range list {
			if c := &list[i]; c.Resources != nil {
				row.Containers[c.Name] = granted(row.Containers[c.Name], c.AllocatedResources, c.Resources.Limits)
			}
		}
	}
	if row.Pod != nil && s.Resources != nil {
		r := granted(*row.Pod, s.AllocatedResources, s.Resources.Limits)
		row.Pod = &r
	}
	if pending != nil {
		row.Pending = &model.PendingResize{Reason: pending.Reason, Message: pending.Message, Generation: pending.ObservedGeneration}
	}
	return row
}

// granted puts what the status tells in place of what the spec asks for. Only
// CPU and memory can be resized.
func granted(asked corev1.ResourceRequirements, requests, limits corev1.ResourceList) corev1.ResourceRequirements {
	out := *asked.DeepCopy()
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		out.Requests = put(out.Requests, name, requests)
		out.Limits = put(out.Limits, name, limits)
		request, limit := out.Requests[name], out.Limits[name]
		if !limit.IsZero() && limit.Cmp(request) < 0 {
			out.Limits[name] = request // they are of two resizes: a limit below its request is none of them
		}
	}
	return out
}

func put(list corev1.ResourceList, name corev1.ResourceName, from corev1.ResourceList) corev1.ResourceList {
	q, ok := from[name]
	if !ok {
		delete(list, name)
		return list
	}
	out := maps.Clone(list)
	if out == nil {
		out = corev1.ResourceList{}
	}
	out[name] = q
	return out
}

func find(all []corev1.PodCondition, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range all {
		if all[i].Type == t {
			return &all[i]
		}
	}
	return nil
}
