package node

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/metrics"
	"nodelet/internal/model"
	"nodelet/internal/podref"
	"nodelet/internal/store"
)

// podCounts counts pods and containers for kubelet_running_pods and its kin.
func podCounts(snap *store.Snapshot) metrics.Counts {
	c := metrics.Counts{
		DesiredPods: map[bool]int{}, ActivePods: map[bool]int{}, MirrorPods: snap.Mirrors.Len(),
		RunningContainers: map[string]int{}, WorkingPods: map[metrics.WorkingPod]int{},
	}
	for _, lifecycle := range []string{"sync", "terminating", "terminated"} {
		for _, kind := range []metrics.WorkingPod{{Config: "desired"}, {Config: "desired", Static: "true"}, {Config: "runtime_only", Static: "unknown"}} {
			kind.Lifecycle = lifecycle
			c.WorkingPods[kind] = 0
		}
	}
	for uid, p := range snap.Pods.All() {
		static, kind := podref.IsStatic(p), metrics.WorkingPod{Lifecycle: lifecycle(snap, uid, p), Config: "desired"}
		if static {
			kind.Static = "true"
		}
		c.WorkingPods[kind]++
		c.DesiredPods[static]++
		if !podOver(p) {
			c.ActivePods[static]++
		}
		c.EphemeralContainers += len(p.Spec.EphemeralContainers)
	}
	for uid, rt := range snap.Runtime.All() {
		if len(rt.Sandboxes) > 0 && rt.Sandboxes[0].Ready {
			c.RunningPods++
		}
		for _, ctr := range rt.Containers {
			c.RunningContainers[ctr.State.String()]++
		}
		if snap.Pods.Missing(uid) {
			c.WorkingPods[metrics.WorkingPod{Lifecycle: lifecycle(snap, uid, nil), Config: "runtime_only", Static: "unknown"}]++
		}
	}
	return c
}

func podOver(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// lifecycle is what is being done about a pod; p is nil where nobody wants it any more.
func lifecycle(snap *store.Snapshot, uid model.UID, p *corev1.Pod) string {
	row, decided := snap.Allocations.Get(uid)
	_, evicted := snap.Evictions.Get(uid)
	if p != nil && p.DeletionTimestamp == nil && !podOver(p) && !evicted && (!decided || !row.Rejected) {
		return "sync"
	}
	rt, ok := snap.Runtime.Get(uid)
	if ok && slices.ContainsFunc(rt.Containers, func(c model.Container) bool {
		return c.State == model.ContainerRunning || c.State == model.ContainerUnknown
	}) {
		return "terminating"
	}
	return "terminated"
}
