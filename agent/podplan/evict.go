package podplan

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/model"
)

// evicted is what makes the pod go although nobody asked for it; nil when it may stay. A pod that is
// being deleted goes anyway, and one that has ended is no longer in the way.
func (m *maker) evicted() *model.Eviction {
	row, ok := m.World.Evictions.Get(m.UID)
	if !ok || m.obj.DeletionTimestamp != nil {
		return nil
	}
	return row
}

// evictEnd is how an evicted pod ends.
func evictEnd(row *model.Eviction) ending {
	return ending{phase: corev1.PodFailed, reason: row.Why(), message: row.Message}
}

// disruption is the condition of a pod that goes for others' sake: a critical pod's, or the node's.
func (m *maker) disruption() (corev1.PodCondition, bool) {
	of := func(message string) (corev1.PodCondition, bool) {
		return condition(corev1.DisruptionTarget, true, corev1.PodReasonTerminationByKubelet, message), true
	}
	if m.preempted() {
		return of("Pod was preempted by Kubelet to accommodate a critical pod.")
	}
	if row := m.evicted(); row != nil && row.Pressure && !terminal(m.obj.Status.Phase) {
		return of(row.Message)
	}
	return corev1.PodCondition{}, false
}

// StopGrace is how long the containers of a pod have to end, by its own word or because the node says so.
func StopGrace(pod *corev1.Pod, row *model.Eviction) time.Duration {
	if row != nil && pod.DeletionTimestamp == nil {
		return min(row.Grace, Grace(pod))
	}
	return Grace(pod)
}
