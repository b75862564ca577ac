package podplan

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestSandboxSeccomp(t *testing.T) {
	const profile = "/profiles/sandbox.json"
	class := "other"
	for _, test := range []struct {
		name, profile string
		class         *string
		want          runtimev1.SecurityProfile_ProfileType
	}{
		{"no profile of its own", "", nil, runtimev1.SecurityProfile_RuntimeDefault},
		{"a profile of its own", profile, nil, runtimev1.SecurityProfile_Localhost},
		{"another handler", profile, &class, runtimev1.SecurityProfile_RuntimeDefault},
	} {
		pod := &corev1.Pod{Spec: corev1.PodSpec{RuntimeClassName: test.class}}
		m := &maker{Facts: Facts{Settings: &Settings{SandboxSeccomp: test.profile}}, obj: pod}
		got := m.sandboxSeccomp()
		if got.GetProfileType() != test.want || (got.GetLocalhostRef() != "") != (test.want == runtimev1.SecurityProfile_Localhost) {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}
