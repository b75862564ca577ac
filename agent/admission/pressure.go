package admission

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/podref"
)

// pressed says that the node has not enough for anything new. Short of memory only, it still takes pods
// that ask for some, and those that tolerate the taint that stands for it.
func pressed(pod *corev1.Pod, pressure []corev1.NodeConditionType) *refusal {
	if len(pressure) == 0 || Critical(pod) {
		return nil
	}
	memory := corev1.Taint{Key: corev1.TaintNodeMemoryPressure, Effect: corev1.TaintEffectNoSchedule}
	if slices.Equal(pressure, []corev1.NodeConditionType{corev1.NodeMemoryPressure}) && (podref.QOS(pod) != corev1.PodQOSBestEffort ||
		slices.ContainsFunc(pod.Spec.Tolerations, func(t corev1.Toleration) bool { return tolerated(&t, &memory) })) {
		return nil
	}
	return &refusal{"Evicted", fmt.Sprintf("The node had condition: %v. ", pressure)}
}
