package admission

import (
	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/podref"
)

// MaySwap tells whether LimitedSwap is for a container at all: for one of a Burstable pod that is not
// critical, which asks for some memory and for less than its limit (KEP-2400).
func MaySwap(pod *corev1.Pod, c *corev1.Container) bool {
	request, limit := c.Resources.Requests.Memory(), c.Resources.Limits.Memory()
	return podref.QOS(pod) == corev1.PodQOSBurstable && !Critical(pod) && request.Cmp(*limit) != 0
}

// movesSwap: a container's part of the swap would change with its memory while it runs, which upstream
// refuses to do.
func movesSwap(pod, granted *corev1.Pod) bool {
	lists := func(p *corev1.Pod) [][]corev1.Container {
		return [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers}
	}
	for i, list := range lists(pod) {
		for j := range list {
			after, before := &list[j], &lists(granted)[i][j]
			same := after.Resources.Requests.Memory().Cmp(*before.Resources.Requests.Memory()) == 0
			if !same && !restartsForMemory(after) && (MaySwap(pod, after) || MaySwap(granted, before)) {
				return true
			}
		}
	}
	return false
}

func restartsForMemory(c *corev1.Container) bool {
	for _, p := range c.ResizePolicy {
		if p.ResourceName == corev1.ResourceMemory {
			return p.RestartPolicy == corev1.RestartContainer
		}
	}
	return false
}
