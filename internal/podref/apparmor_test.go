package podref

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestAppArmor(t *testing.T) {
	name := "own"
	own := &corev1.SecurityContext{AppArmorProfile: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeLocalhost, LocalhostProfile: &name}}
	pods := &corev1.PodSecurityContext{AppArmorProfile: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeRuntimeDefault}}
	for _, c := range []struct {
		what, annotation string
		pod              *corev1.PodSecurityContext
		own              *corev1.SecurityContext
		want             string
	}{
		{"none", "", nil, nil, ""},
		{"the pod's", "", pods, nil, "RuntimeDefault"},
		{"its own first", "localhost/x", pods, own, "Localhost own"},
		{"the annotation before the pod's", "localhost/x", pods, nil, "Localhost x"},
		{"unconfined by annotation", "unconfined", pods, nil, "Unconfined"},
		{"default by annotation", "runtime/default", nil, nil, "RuntimeDefault"},
		{"an annotation that means nothing", "else", pods, nil, "RuntimeDefault"},
	} {
		pod := &corev1.Pod{}
		pod.Spec.SecurityContext = c.pod
		if c.annotation != "" {
			pod.Annotations = map[string]string{"container.apparmor.security.beta.kubernetes.io/c": c.annotation}
		}
		got := ""
		if p := AppArmor(pod, &corev1.Container{Name: "c", SecurityContext: c.own}); p != nil {
			got = string(p.Type)
			if p.LocalhostProfile != nil {
				got += " " + *p.LocalhostProfile
			}
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}
