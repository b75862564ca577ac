package staticplan

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/agent/podstatus"
	"nodelet/agent/static/manifest"
	"nodelet/internal/model"
)

// Mirror is what to do about the API's image of a static pod; at most one field is set.
type Mirror struct {
	// Delete is the image to delete at once: nobody's, an older version's, or one that somebody deleted.
	Delete *corev1.Pod
	Create *corev1.Pod
	// Patch: the image has another status than the pod.
	Patch bool
}

// String is a word or two.
func (m Mirror) String() string {
	switch {
	case m.Delete != nil:
		return "delete " + string(m.Delete.UID)
	case m.Create != nil:
		return "create " + m.Create.Annotations[corev1.MirrorPodAnnotationKey]
	case m.Patch:
		return "patch"
	}
	return "nothing"
}

// MirrorOf compares a static pod with its image; either may be nil. node is
// that of the pod: nil or one without UID is not registered yet, and makes no images.
func MirrorOf(pod, image *corev1.Pod, node *model.Node) Mirror {
	switch {
	case image != nil && (pod == nil || image.DeletionTimestamp != nil || image.Annotations[corev1.MirrorPodAnnotationKey] != pod.Annotations[manifest.HashAnnotation]):
		return Mirror{Delete: image}
	case pod == nil:
		return Mirror{}
	case image != nil:
		return Mirror{Patch: !podstatus.Alike(&image.Status, &pod.Status)}
	case pod.DeletionTimestamp != nil || node == nil || node.UID == "" || node.Deleting:
		return Mirror{}
	}
	return Mirror{Create: imageOf(pod, node)}
}

// imageOf is the pod as the API gets to see it: owned by the node, which the
// admission plugin NodeRestriction asks for (KEP-1314).
func imageOf(pod *corev1.Pod, node *model.Node) *corev1.Pod {
	controller := true
	out := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: pod.Name, Namespace: pod.Namespace, Labels: pod.Labels, Annotations: maps.Clone(pod.Annotations),
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: types.UID(node.UID), Controller: &controller}},
		},
		Spec: pod.Spec,
	}
	out.Annotations[corev1.MirrorPodAnnotationKey] = pod.Annotations[manifest.HashAnnotation]
	return out
}
