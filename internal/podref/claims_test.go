package podref

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

func TestClaims(t *testing.T) {
	var pod corev1.Pod
	text := `
metadata: {name: p, namespace: ns}
spec:
  volumes:
  - {name: b, persistentVolumeClaim: {claimName: data}}
  - {name: a, persistentVolumeClaim: {claimName: data}}
  - {name: scratch, ephemeral: {volumeClaimTemplate: {spec: {}}}}
  - {name: none, emptyDir: {}}
`
	if err := yaml.UnmarshalStrict([]byte(text), &pod); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(Claims(&pod)); got != "[ns/data ns/p-scratch]" {
		t.Fatalf("got %s", got)
	}
}
