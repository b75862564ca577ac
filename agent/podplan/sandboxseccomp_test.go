package podplan

import (
	"testing"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestSandboxSeccomp(t *testing.T) {
	if got := sandboxSeccomp(&Settings{}); got.GetProfileType() != runtimev1.SecurityProfile_RuntimeDefault {
		t.Errorf("a foreign runtime gets %v", got)
	}
	got := sandboxSeccomp(&Settings{SandboxSeccomp: "/profiles/sandbox.json"})
	if got.GetProfileType() != runtimev1.SecurityProfile_Localhost || got.GetLocalhostRef() != "/profiles/sandbox.json" {
		t.Errorf("with a profile of its own: %v", got)
	}
}
