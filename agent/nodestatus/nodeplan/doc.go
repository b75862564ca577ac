// Package nodeplan decides what the Node object of this machine says: addresses, capacity, node
// information, conditions, events. It reads nothing and writes nothing: nodestatus gathers the
// facts and sends the difference. Flow: nodestatus -> Make -> Patch -> internal/kube.
//
// Pure.
//
// Invariants:
//   - What others wrote into the object (podCIDR, taints, their conditions and extended resources)
//     stays as it is.
//   - A condition's lastTransitionTime changes only with its status.
//   - Within Grace of the daemon's start a Ready node stays Ready: what has not been looked at yet
//     is no news, and the kernel still holds what the daemon had programmed before it stopped. Only
//     a reboot ends that.
package nodeplan
