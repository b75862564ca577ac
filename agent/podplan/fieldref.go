package podplan

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func (m *maker) fieldRef(ref *corev1.ObjectFieldSelector) (string, error) {
	switch ref.FieldPath {
	case "status.hostIP", "status.hostIPs":
		if len(m.Node.IPs) == 0 {
			return "", &notYet{"the node's address"}
		}
		return joinIPs(m.Node.IPs, ref.FieldPath == "status.hostIPs"), nil
	case "status.podIP", "status.podIPs":
		ips, _ := m.podIPs()
		return joinIPs(ips, ref.FieldPath == "status.podIPs"), nil
	}
	return FieldValue(m.obj, ref.FieldPath)
}

func joinIPs(ips []netip.Addr, all bool) string {
	if len(ips) == 0 {
		return ""
	}
	if !all {
		return ips[0].String()
	}
	texts := make([]string, len(ips))
	for i, ip := range ips {
		texts[i] = ip.String()
	}
	return strings.Join(texts, ",")
}

// FieldValue gives the field of a pod that a fieldRef names, but for addresses,
// which are not known from the pod alone.
func FieldValue(pod *corev1.Pod, path string) (string, error) {
	if field, key, ok := subscript(path); ok {
		switch field {
		case "metadata.annotations":
			return pod.Annotations[key], nil
		case "metadata.labels":
			return pod.Labels[key], nil
		}
		return "", &configError{fmt.Sprintf("fieldPath %q: only metadata.labels and metadata.annotations have keys", path)}
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
	case "spec.nodeName":
		return pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	}
	return "", &configError{fmt.Sprintf("unsupported fieldPath: %v", path)}
}

// subscript splits metadata.labels['key'].
func subscript(path string) (field, key string, ok bool) {
	if !strings.HasSuffix(path, "']") {
		return "", "", false
	}
	field, key, ok = strings.Cut(strings.TrimSuffix(path, "']"), "['")
	return field, key, ok && field != ""
}

// formatMap is one key="value" a line, sorted.
func formatMap(values map[string]string) string {
	var lines []string
	for _, k := range slices.Sorted(maps.Keys(values)) {
		lines = append(lines, k+"="+strconv.Quote(values[k]))
	}
	return strings.Join(lines, "\n")
}

func (m *maker) resourceFieldRef(c ctr, ref *corev1.ResourceFieldSelector) (string, error) {
	target := c.Container
	if ref.ContainerName != "" {
		named, ok := m.find(ref.ContainerName)
		if !ok {
			return "", &configError{fmt.Sprintf("resourceFieldRef names container %q, which the pod does not have", ref.ContainerName)}
		}
		target = named.Container
	}
	return ResourceValue(target, ref, m.Node.Allocatable)
}

// ResourceValue gives the resource of a container that a resourceFieldRef
// names, in units of its divisor, rounded up. A limit that is not set is what
// the node can give.
func ResourceValue(c *corev1.Container, ref *corev1.ResourceFieldSelector, allocatable corev1.ResourceList) (string, error) {
	kind, resourceName, ok := strings.Cut(ref.Resource, ".")
	if !ok || (kind != "limits" && kind != "requests") {
		return "", &configError{fmt.Sprintf("unsupported container resource : %v", ref.Resource)}
	}
	name := corev1.ResourceName(resourceName)
	var q resource.Quantity
	if kind == "limits" {
		if q, ok = c.Resources.Limits[name]; !ok || q.IsZero() {
			q = allocatable[name]
		}
	} else {
		q = *requestOf(c, name)
	}
	divisor := ref.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	if name == corev1.ResourceCPU {
		return ceilDiv(q.MilliValue(), divisor.MilliValue()), nil
	}
	return ceilDiv(q.Value(), divisor.Value()), nil
}

func ceilDiv(a, b int64) string {
	if b == 0 {
		b = 1
	}
	return strconv.FormatInt(int64(math.Ceil(float64(a)/float64(b))), 10)
}

func sortedNames(list corev1.ResourceList) []corev1.ResourceName {
	return slices.Sorted(maps.Keys(list))
}
