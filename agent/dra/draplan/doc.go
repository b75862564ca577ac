// Package draplan decides about the ResourceClaims of pods: which ones a pod
// has, whether it may use them, which drivers are to be called for them at its
// start and at its end, and which devices go into which container. It calls
// nobody (agent/dra does). Flow: pod, claims, records -> Prepare or Release ->
// agent/dra; table Prepared -> CDI, Health -> agent/podplan.
//
// Pure.
//
// Invariants:
//   - A record names a pod before a driver is called for that pod's claim, and
//     until all drivers of the claim have taken it back.
//   - A claim counts as prepared only if all its drivers said so since the boot,
//     and no driver was asked since to take it back.
package draplan
