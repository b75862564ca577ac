package volumeplan

import (
	"testing"

	"sigs.k8s.io/yaml"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"nodelet/internal/model"
)

func TestExpand(t *testing.T) {
	const grown = "2Gi"
	for name, c := range map[string]struct{ claim, known, want string }{
		"as large as the claim says":   {"status: {capacity: {storage: 2Gi}}", "", "nothing"},
		"of a size nobody has told":    {"status: {}", "", "nothing"},
		"with an old resizer":          {"status: {capacity: {storage: 1Gi}}", "", "expand to 2Gi begin=false finish=true hopeless=false"},
		"told by another node":         {"status: {capacity: {storage: 2Gi}}", "1Gi", "expand to 2Gi begin=false finish=false hopeless=false"},
		"pending":                      {"spec: {resources: {requests: {storage: 2Gi}}}\nstatus: {capacity: {storage: 1Gi}, allocatedResources: {storage: 2Gi}, allocatedResourceStatuses: {storage: NodeResizePending}}", "", "expand to 2Gi begin=true finish=true hopeless=false"},
		"in progress":                  {"spec: {resources: {requests: {storage: 2Gi}}}\nstatus: {capacity: {storage: 1Gi}, allocatedResources: {storage: 2Gi}, allocatedResourceStatuses: {storage: NodeResizeInProgress}}", "", "expand to 2Gi begin=false finish=true hopeless=false"},
		"the controller is at it":      {"status: {capacity: {storage: 1Gi}, allocatedResources: {storage: 2Gi}, allocatedResourceStatuses: {storage: ControllerResizeInProgress}}", "", "nothing"},
		"given up":                     {"status: {capacity: {storage: 1Gi}, allocatedResources: {storage: 2Gi}, allocatedResourceStatuses: {storage: NodeResizeInfeasible}}", "", "nothing"},
		"less than the volume":         {"spec: {resources: {requests: {storage: 1500Mi}}}\nstatus: {capacity: {storage: 1Gi}, allocatedResources: {storage: 1500Mi}, allocatedResourceStatuses: {storage: NodeResizePending}}", "", "expand to 1500Mi begin=true finish=true hopeless=false"},
		"done, less than the volume":   {"status: {capacity: {storage: 1500Mi}, allocatedResources: {storage: 1500Mi}}", "", "nothing"},
		"another size wanted":          {"spec: {resources: {requests: {storage: 1500Mi}}}\nstatus: {capacity: {storage: 1Gi}, allocatedResources: {storage: 2Gi}, allocatedResourceStatuses: {storage: NodeResizePending}}", "", "expand to 2Gi begin=true finish=true hopeless=false"},
		"another size wanted, refused": {"spec: {resources: {requests: {storage: 1500Mi}}}\nstatus: {capacity: {storage: 1Gi}, conditions: [{type: NodeResizeError, status: \"True\"}], allocatedResources: {storage: 2Gi}, allocatedResourceStatuses: {storage: NodeResizeInProgress}}", "", "expand to 2Gi begin=false finish=true hopeless=true"},
		"done elsewhere, many writers": {"spec: {accessModes: [ReadWriteMany], resources: {requests: {storage: 2Gi}}}\nstatus: {capacity: {storage: 2Gi}, allocatedResources: {storage: 2Gi}}", "1Gi", "expand to 2Gi begin=false finish=false hopeless=false"},
		"many writers, not needed":     {"metadata: {annotations: {volume.kubernetes.io/node-expansion-not-required: \"true\"}}\nspec: {accessModes: [ReadWriteMany], resources: {requests: {storage: 2Gi}}}\nstatus: {capacity: {storage: 2Gi}, allocatedResources: {storage: 2Gi}}", "1Gi", "nothing"},
		"done elsewhere, one writer":   {"spec: {accessModes: [ReadWriteOnce]}\nstatus: {capacity: {storage: 2Gi}, allocatedResources: {storage: 2Gi}}", "1Gi", "nothing"},
	} {
		claim := &model.Claim{Claim: &corev1.PersistentVolumeClaim{}, Volume: &corev1.PersistentVolume{Spec: corev1.PersistentVolumeSpec{
			Capacity: corev1.ResourceList{"storage": resource.MustParse(grown)},
		}}}
		if err := yaml.UnmarshalStrict([]byte(c.claim), claim.Claim); err != nil {
			t.Fatal(name, err)
		}
		var known resource.Quantity
		if c.known != "" {
			known = resource.MustParse(c.known)
		}
		if got := Expand(claim, known).String(); got != c.want {
			t.Errorf("a volume %s: %s, want %s", name, got, c.want)
		}
	}
	if got := Expand(nil, resource.Quantity{}); got.Call {
		t.Error("a volume of no claim is expanded")
	}
}
