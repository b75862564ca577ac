package podref

import corev1 "k8s.io/api/core/v1"

// SourceAnnotation says where a pod comes from: "file" or "http" for a static
// pod. internal/kube takes it off the API's pods, so that nobody can claim it there.
const SourceAnnotation = "kubernetes.io/config.source"

// IsStatic tells whether a pod comes from this node's own manifests.
func IsStatic(pod *corev1.Pod) bool {
	source, ok := pod.Annotations[SourceAnnotation]
	return ok && source != "api"
}

// IsMirror tells whether a pod is the API's image of a static pod.
func IsMirror(pod *corev1.Pod) bool {
	_, ok := pod.Annotations[corev1.MirrorPodAnnotationKey]
	return ok
}
