package podstatus

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

// Alike compares two statuses but for the times of conditions that say the same: those follow from when one looks.
func Alike(a, b *corev1.PodStatus) bool {
	return equality.Semantic.DeepEqual(withoutTimes(a), withoutTimes(b))
}

func withoutTimes(s *corev1.PodStatus) *corev1.PodStatus {
	c := *s
	c.Conditions = append([]corev1.PodCondition(nil), s.Conditions...)
	for i := range c.Conditions {
		c.Conditions[i].LastTransitionTime = metav1.Time{}
	}
	return &c
}

// Patch is the strategic merge patch from the status the API has to the
// one that is true. It names the UID, so that it never hits another pod of that name.
func Patch(pod *corev1.Pod, status *corev1.PodStatus) ([]byte, error) {
	before, err := json.Marshal(corev1.Pod{Status: pod.Status})
	if err != nil {
		return nil, fmt.Errorf("encode status of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	after, err := json.Marshal(corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: pod.UID}, Status: *status})
	if err != nil {
		return nil, fmt.Errorf("encode new status of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(before, after, corev1.Pod{})
	if err != nil {
		return nil, fmt.Errorf("make status patch of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return patch, nil
}

// Apply gives a copy of the pod with the status that a patch makes of it.
func Apply(pod *corev1.Pod, patch []byte) (*corev1.Pod, error) {
	before, err := json.Marshal(corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: pod.UID}, Status: pod.Status})
	if err != nil {
		return nil, fmt.Errorf("encode status of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	after, err := strategicpatch.StrategicMergePatch(before, patch, corev1.Pod{})
	if err != nil {
		return nil, fmt.Errorf("patch status of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	var patched corev1.Pod
	if err := json.Unmarshal(after, &patched); err != nil {
		return nil, fmt.Errorf("decode patched status of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	out := *pod
	out.Status = patched.Status
	return &out, nil
}
