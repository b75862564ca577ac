package podref

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Field gives the text of a metadata field as the downward API writes it:
// metadata.name, .namespace, .uid, .labels, .annotations, and the last two
// with a key in brackets. A key that is not there gives an empty text.
func Field(pod *corev1.Pod, path string) (string, error) {
	if field, key, ok := subscript(path); ok {
		switch field {
		case "metadata.labels":
			return pod.Labels[key], nil
		case "metadata.annotations":
			return pod.Annotations[key], nil
		}
		return "", fmt.Errorf("field %q takes no key in brackets", path)
	}
	switch path {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "metadata.labels":
		return formatMap(pod.Labels), nil
	case "metadata.annotations":
		return formatMap(pod.Annotations), nil
	}
	return "", fmt.Errorf("field %q is not one of the downward API", path)
}

// subscript splits "a['b']" into a and b.
func subscript(path string) (field, key string, ok bool) {
	inner, ok := strings.CutSuffix(path, "']")
	if !ok {
		return "", "", false
	}
	field, key, ok = strings.Cut(inner, "['")
	return field, key, ok && field != ""
}

// formatMap is one line key="value" for each key, sorted, the value quoted as Go does.
func formatMap(m map[string]string) string {
	lines := make([]string, 0, len(m))
	for k, v := range m {
		lines = append(lines, k+"="+strconv.Quote(v))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// Resource gives a resource of a container as the downward API writes it:
// rounded up to whole divisors. A limit of CPU, memory or ephemeral storage
// that is not set is what the node has allocatable. container names the one
// the reference stands in, where ref does not name another.
func Resource(pod *corev1.Pod, container string, ref *corev1.ResourceFieldSelector, allocatable corev1.ResourceList) (string, error) {
	if ref.ContainerName != "" {
		container = ref.ContainerName
	}
	c := findContainer(pod, container)
	if c == nil {
		return "", fmt.Errorf("container %q is not in the pod", container)
	}
	kind, name, ok := strings.Cut(ref.Resource, ".")
	r := corev1.ResourceName(name)
	known := r == corev1.ResourceCPU || r == corev1.ResourceMemory || r == corev1.ResourceEphemeralStorage
	huge := strings.HasPrefix(name, corev1.ResourceHugePagesPrefix)
	if !ok || !known && !huge || kind != "limits" && kind != "requests" {
		return "", fmt.Errorf("resource %q is not one of the downward API", ref.Resource)
	}
	q := c.Resources.Requests[r]
	if kind == "limits" {
		q = c.Resources.Limits[r]
		if q.IsZero() && known {
			q = allocatable[r]
		}
	}
	return divide(q, ref.Divisor, r == corev1.ResourceCPU), nil
}

func divide(q, divisor resource.Quantity, milli bool) string {
	if divisor.IsZero() {
		divisor = *resource.NewQuantity(1, resource.DecimalSI)
	}
	a, b := float64(q.Value()), float64(divisor.Value())
	if milli {
		a, b = float64(q.MilliValue()), float64(divisor.MilliValue())
	}
	return strconv.FormatInt(int64(math.Ceil(a/b)), 10)
}

func findContainer(pod *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if common := &pod.Spec.EphemeralContainers[i].EphemeralContainerCommon; common.Name == name {
			return (*corev1.Container)(common)
		}
	}
	return nil
}
