package admission

import (
	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/podref"
)

// unenforceable says that a pod asks for an AppArmor profile that the host cannot enforce.
func unenforceable(pod *corev1.Pod, enabled bool) *refusal {
	if enabled || !wantsAppArmor(pod) {
		return nil
	}
	return &refusal{"AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host"}
}

// wantsAppArmor: the pod, or a container of it, asks for any profile but Unconfined.
func wantsAppArmor(pod *corev1.Pod) bool {
	confined := func(p *corev1.AppArmorProfile) bool {
		return p != nil && p.Type != corev1.AppArmorProfileTypeUnconfined
	}
	if sc := pod.Spec.SecurityContext; sc != nil && confined(sc.AppArmorProfile) {
		return true
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if confined(podref.AppArmor(pod, &list[i])) {
				return true
			}
		}
	}
	return false
}
