package podref

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestField(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: "p", Namespace: "ns", UID: "u-1",
		Labels:      map[string]string{"b": "2", "a": "x\"y\nz"},
		Annotations: map[string]string{"example.com/k": "v"},
	}}
	for path, want := range map[string]string{
		"metadata.name":                         "p",
		"metadata.namespace":                    "ns",
		"metadata.uid":                          "u-1",
		"metadata.labels":                       "a=\"x\\\"y\\nz\"\nb=\"2\"",
		"metadata.labels['b']":                  "2",
		"metadata.labels['missing']":            "",
		"metadata.annotations['example.com/k']": "v",
	} {
		if got, err := Field(pod, path); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", path, got, err, want)
		}
	}
	for _, path := range []string{"", "spec.nodeName", "metadata.name['x']", "['x']", "metadata.labels['x"} {
		if got, err := Field(pod, path); err == nil {
			t.Errorf("%s: got %q, want an error", path, got)
		}
	}
}

func TestResource(t *testing.T) {
	q := resource.MustParse
	pod := &corev1.Pod{Spec: corev1.PodSpec{
		InitContainers: []corev1.Container{{Name: "i"}},
		Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{
			Limits:   corev1.ResourceList{"cpu": q("1250m"), "memory": q("64Mi"), "hugepages-2Mi": q("4Mi")},
			Requests: corev1.ResourceList{"cpu": q("100m")},
		}}},
	}}
	allocatable := corev1.ResourceList{"cpu": q("4"), "memory": q("8Gi"), "ephemeral-storage": q("10Gi")}
	for _, c := range []struct{ container, resource, divisor, want string }{
		{"c", "limits.cpu", "", "2"},
		{"c", "limits.cpu", "1m", "1250"},
		{"c", "requests.cpu", "1m", "100"},
		{"c", "limits.memory", "1Mi", "64"},
		{"c", "limits.memory", "", "67108864"},
		{"c", "requests.memory", "", "0"},
		{"c", "limits.ephemeral-storage", "1Gi", "10"},
		{"c", "limits.hugepages-2Mi", "1Mi", "4"},
		{"i", "limits.memory", "1Gi", "8"},
	} {
		ref := &corev1.ResourceFieldSelector{Resource: c.resource}
		if c.divisor != "" {
			ref.Divisor = q(c.divisor)
		}
		if got, err := Resource(pod, c.container, ref, allocatable); err != nil || got != c.want {
			t.Errorf("%+v: got %q, %v", c, got, err)
		}
	}
	for _, c := range []struct{ container, resource string }{{"none", "limits.cpu"}, {"c", "cpu"}, {"c", "limits.example.com/gpu"}, {"c", "usage.cpu"}} {
		if got, err := Resource(pod, c.container, &corev1.ResourceFieldSelector{Resource: c.resource}, allocatable); err == nil {
			t.Errorf("%+v: got %q, want an error", c, got)
		}
	}
}

func TestExpand(t *testing.T) {
	env := map[string]string{"A": "1", "EMPTY": "", "NEST": "$(A)"}
	lookup := func(n string) (string, bool) { v, ok := env[n]; return v, ok }
	for in, want := range map[string]string{
		"":               "",
		"plain":          "plain",
		"$(A)":           "1",
		"x$(A)y$(A)":     "x1y1",
		"$(EMPTY)|":      "|",
		"$(NEST)":        "$(A)",
		"$(MISSING)":     "$(MISSING)",
		"$$(A)":          "$(A)",
		"$$$(A)":         "$1",
		"$$$$(A)":        "$$(A)",
		"$A $":           "$A $",
		"$(A":            "$(A",
		"$(A$(A)":        "$(A$(A)",
		"a$$b":           "a$b",
		"$(NOT)$(A)$$()": "$(NOT)1$()",
	} {
		if got := Expand(in, lookup); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func FuzzExpand(f *testing.F) {
	f.Add("$(A)$$(A)$(")
	f.Fuzz(func(t *testing.T, text string) {
		got := Expand(text, func(name string) (string, bool) { return "$(" + name + ")", true })
		// Replacing each reference by itself changes nothing but $$.
		if again := Expand(text, func(string) (string, bool) { return "", false }); got != again {
			t.Errorf("Expand(%q) = %q, and %q with unknown names", text, got, again)
		}
	})
}
