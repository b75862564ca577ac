package podref

import corev1 "k8s.io/api/core/v1"

// ByClaim reports whether the scheduler has allocated an extended resource for
// a container through a ResourceClaim (KEP-5004); container empty: for any one.
func ByClaim(pod *corev1.Pod, container string, name corev1.ResourceName) bool {
	if pod.Status.ExtendedResourceClaimStatus == nil {
		return false
	}
	for _, m := range pod.Status.ExtendedResourceClaimStatus.RequestMappings {
		if m.ResourceName == string(name) && (container == "" || m.ContainerName == container) {
			return true
		}
	}
	return false
}
