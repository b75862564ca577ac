package podref

import corev1 "k8s.io/api/core/v1"

// TrustBundles reports whether a volume of the pod is made from ClusterTrustBundles (KEP-3257).
func TrustBundles(pod *corev1.Pod) bool {
	for i := range pod.Spec.Volumes {
		if p := pod.Spec.Volumes[i].Projected; p != nil {
			for j := range p.Sources {
				if p.Sources[j].ClusterTrustBundle != nil {
					return true
				}
			}
		}
	}
	return false
}
