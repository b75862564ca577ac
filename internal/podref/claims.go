package podref

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/model"
)

// ClaimName is the name of the PersistentVolumeClaim behind a volume: the one
// it names, or the one that is made for a generic ephemeral volume.
func ClaimName(pod *corev1.Pod, v *corev1.Volume) (name string, ok bool) {
	switch {
	case v.PersistentVolumeClaim != nil:
		return v.PersistentVolumeClaim.ClaimName, true
	case v.Ephemeral != nil:
		return pod.Name + "-" + v.Name, true
	}
	return "", false
}

// Claims gives the PersistentVolumeClaims behind the pod's volumes, sorted, none twice.
func Claims(pod *corev1.Pod) []model.Key {
	var keys []model.Key
	for i := range pod.Spec.Volumes {
		if name, ok := ClaimName(pod, &pod.Spec.Volumes[i]); ok && name != "" {
			keys = append(keys, model.Key{Namespace: pod.Namespace, Name: name})
		}
	}
	slices.SortFunc(keys, model.Key.Compare)
	return slices.Compact(keys)
}
