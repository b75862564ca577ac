package model

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// Allocation is what this node has decided about one pod: whether it takes it,
// and with which resources. A pod without a row has not been decided upon.
type Allocation struct {
	UID UID
	// Rejected: the pod does not run here, or no longer. Reason and Message
	// are those of its status; Preempted tells that it had been taken and must
	// make room for a critical pod.
	Rejected, Preempted bool
	Reason, Message     string
	// Generation of the pod that the resources were granted for.
	Generation int64
	// Pod has the resources granted to the pod as a whole, nil when it names none.
	Pod *corev1.ResourceRequirements
	// Containers has the granted resources of the containers, init containers included, by name.
	Containers map[string]corev1.ResourceRequirements
	// UserNS is the host's id of the pod's user 0, for a pod with a user namespace of its own; 0: it has none (yet).
	UserNS uint32
	// After are the pods that make room for this one: it starts when nothing of them runs any more.
	After []UID
	// Pending is nil when all that the pod asks for is granted.
	Pending *PendingResize
}

// PendingResize says why resources a pod asks for are not granted.
type PendingResize struct {
	// Reason is Deferred or Infeasible (v1.PodReasonDeferred, v1.PodReasonInfeasible).
	Reason  string
	Message string
	// Generation of the pod that asks for them.
	Generation int64
}

// String is one line: pod, verdict, what is pending.
func (a *Allocation) String() string {
	s := fmt.Sprintf("%s granted generation %d", a.UID, a.Generation)
	switch {
	case a.Preempted:
		s = fmt.Sprintf("%s preempted %s: %s", a.UID, a.Reason, a.Message)
	case a.Rejected:
		s = fmt.Sprintf("%s rejected %s: %s", a.UID, a.Reason, a.Message)
	}
	if a.UserNS != 0 {
		s += fmt.Sprintf(", users from %d", a.UserNS)
	}
	if len(a.After) > 0 {
		s += fmt.Sprintf(" after %v", a.After)
	}
	if p := a.Pending; p != nil {
		s += fmt.Sprintf(", generation %d %s: %s", p.Generation, p.Reason, p.Message)
	}
	return s
}
