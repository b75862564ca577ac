package volumeplan

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"nodelet/internal/model"
)

// notRequired says on a claim that its volume has no file system on nodes that would have to grow.
const notRequired = "volume.kubernetes.io/node-expansion-not-required"

// Expansion is what is to be done on this node for a volume that has grown, or grows.
type Expansion struct {
	// Call: the driver is asked to grow the file system to Size.
	Call bool
	Size resource.Quantity
	// Begin: the claim is told before (KEP-1790); Finish: and after.
	Begin, Finish bool
	// Hopeless: should it fail once more, the claim is told that it cannot be done, because the user wants
	// another size by now and the controller waits to hear that.
	Hopeless bool
	// Recovers: the controller reads in the claim what came of it (KEP-1790).
	Recovers bool
}

// String is one line.
func (e Expansion) String() string {
	if !e.Call {
		return "nothing"
	}
	return fmt.Sprintf("expand to %s begin=%t finish=%t hopeless=%t", e.Size.String(), e.Begin, e.Finish, e.Hopeless)
}

// Expand decides. known is the size that the volume has on this node, zero where nobody has noted it.
// The rules are the kubelet's (KEP-1790 and, for volumes that several nodes write, its exception).
func Expand(c *model.Claim, known resource.Quantity) Expansion {
	if c == nil || c.Volume == nil || c.Claim == nil {
		return Expansion{}
	}
	size, st := c.Volume.Spec.Capacity[corev1.ResourceStorage], &c.Claim.Status
	told := st.Capacity[corev1.ResourceStorage]
	if known.IsZero() {
		known = told
	}
	if known.IsZero() || size.Cmp(known) <= 0 {
		return Expansion{}
	}
	how := st.AllocatedResourceStatuses[corev1.ResourceStorage]
	if how == "" && st.AllocatedResources == nil {
		return Expansion{Call: true, Size: size, Finish: told.Cmp(size) < 0} // a resizer that knows nothing of recovery
	}
	if allocated := st.AllocatedResources[corev1.ResourceStorage]; !allocated.IsZero() {
		size = allocated
	}
	wanted := c.Claim.Spec.Resources.Requests[corev1.ResourceStorage]
	e := Expansion{Call: true, Size: size, Recovers: true, Hopeless: wanted.Cmp(size) != 0 && FailedBefore(c.Claim)}
	switch {
	case how == corev1.PersistentVolumeClaimNodeResizePending, how == corev1.PersistentVolumeClaimNodeResizeInProgress:
		e.Begin, e.Finish = how == corev1.PersistentVolumeClaimNodeResizePending, true
		return e
	case how == "" && told.Cmp(size) >= 0 && size.Cmp(known) > 0 && c.Claim.Annotations[notRequired] == "" &&
		slices.Contains(c.Claim.Spec.AccessModes, corev1.ReadWriteMany):
		return e // another node was the first
	}
	return Expansion{}
}

// FailedBefore reports whether a driver has refused for good to expand the volume on a node, as the claim says.
func FailedBefore(c *corev1.PersistentVolumeClaim) bool {
	return slices.ContainsFunc(c.Status.Conditions, func(c corev1.PersistentVolumeClaimCondition) bool {
		return c.Type == corev1.PersistentVolumeClaimNodeResizeError && c.Status == corev1.ConditionTrue
	})
}
