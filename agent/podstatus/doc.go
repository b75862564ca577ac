// Package podstatus compares statuses of pods and makes the patch from one to
// the other. It does not say what a pod's status is (agent/podplan does) nor
// send it (agent and agent/static do). Part of the flow Pod -> containers -> status.
//
// Pure.
//
// Invariants: a patch names the pod's UID; what Alike calls alike needs no patch.
package podstatus
