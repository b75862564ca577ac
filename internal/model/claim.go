package model

import (
	corev1 "k8s.io/api/core/v1"
)

// Claim is a PersistentVolumeClaim that a pod of this node refers to, with the
// PersistentVolume it is bound to.
//
// As with Config, a claim that does not exist is a value with Missing set:
// absence in the table means "not looked up yet".
type Claim struct {
	Key     Key
	Missing bool
	// Problem says why the API server does not give the claim or its volume, empty when it does.
	Problem string
	// Claim is nil when it is missing. Volume is nil while the claim is not bound
	// and when the volume it is bound to does not exist.
	Claim  *corev1.PersistentVolumeClaim
	Volume *corev1.PersistentVolume
}

// String is one line: claim, phase, volume.
func (c *Claim) String() string {
	switch {
	case c.Missing:
		return c.Key.String() + " missing"
	case c.Claim == nil:
		return c.Key.String() + " " + c.Problem
	case c.Volume == nil:
		return c.Key.String() + " " + string(c.Claim.Status.Phase)
	}
	return c.Key.String() + " " + string(c.Claim.Status.Phase) + " " + c.Volume.Name
}
