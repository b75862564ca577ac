// Package podref names the ConfigMaps and Secrets that a pod refers to. It
// does not look them up (internal/kube does) and does not say what becomes of
// a missing one (agent/volume and agent/podplan do). Part of the flow
// Pods -> References -> internal/kube reflects Configs.
//
// Pure.
//
// Invariants: the answer depends on the pod's spec only, is sorted and holds
// no key twice; an optional reference is a reference; what nobody on this node
// reads is left out, so that no Secret is fetched in vain.
package podref
