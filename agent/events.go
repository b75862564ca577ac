package agent

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// happening is one event to report.
type happening struct{ kind, reason, message string }

func warning(reason, message string) happening {
	return happening{corev1.EventTypeWarning, reason, message}
}

func normal(reason, message string) happening {
	return happening{corev1.EventTypeNormal, reason, message}
}

// event reports what happened to a pod, or to one of its containers.
func (a *Agent) event(pod *corev1.Pod, container string, h happening) {
	if pod == nil {
		return
	}
	a.deps.Events.Event(reference(pod, container), h.kind, h.reason, h.message)
}

func reference(pod *corev1.Pod, container string) corev1.ObjectReference {
	return corev1.ObjectReference{
		APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID,
		ResourceVersion: pod.ResourceVersion, FieldPath: fieldPath(pod, container),
	}
}

// fieldPath names a container the way kubectl describe shows events of containers.
func fieldPath(pod *corev1.Pod, container string) string {
	if container == "" {
		return ""
	}
	list := "containers"
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == container {
			list = "initContainers"
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if pod.Spec.EphemeralContainers[i].Name == container {
			list = "ephemeralContainers"
		}
	}
	return fmt.Sprintf("spec.%s{%s}", list, container)
}

// kindLabel is the label of a container's kind in metrics.
func kindLabel(pod *corev1.Pod, container string) string {
	switch fieldPath(pod, container)[len("spec."):][0] {
	case 'i':
		return "init_container"
	case 'e':
		return "ephemeral_container"
	}
	return "container"
}
