package podplan

import (
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// systemdSlice names a pod's slice the way systemd nests them: each name
// repeats its parents', separated by dashes, so a dash within a name becomes "_".
func systemdSlice(root, qos, uid string) string {
	names := []string{}
	for _, part := range strings.Split(root, "/") {
		if part = strings.TrimSuffix(part, ".slice"); part != "" {
			names = append(names, part)
		}
	}
	if qos != "" {
		names = append(names, qos)
	}
	names = append(names, "pod"+uid)
	path, joined := "", ""
	for i, n := range names {
		n = strings.ReplaceAll(n, "-", "_")
		if i > 0 {
			n = joined + "-" + n
		}
		joined = n
		path = filepath.Join(path, n+".slice")
	}
	return filepath.Base(path)
}

// requestOf is what a container asks for of a resource; a limit without a request is a request.
func requestOf(c *corev1.Container, name corev1.ResourceName) *resource.Quantity {
	if q, ok := c.Resources.Requests[name]; ok {
		return &q
	}
	if q, ok := c.Resources.Limits[name]; ok {
		return &q
	}
	return &resource.Quantity{}
}
