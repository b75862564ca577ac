// Package podref resolves what a pod's spec refers to: the names of ConfigMaps
// and Secrets (References) and of PersistentVolumeClaims (Claims), fields of its own metadata (Field), resources of
// its containers (Resource) and variables in strings (Expand). It does not
// look anything up (internal/kube does) and does not say what becomes of a
// missing object (agent/volume and agent/podplan do). Part of the flow
// Pods -> References -> internal/kube reflects Configs, and of every planner
// that fills in environment or volumes.
//
// Pure.
//
// Invariants: References depends on the pod's spec only, is sorted and holds
// no key twice; an optional reference is a reference; what nobody on this node
// reads is left out, so that no Secret is fetched in vain.
package podref
