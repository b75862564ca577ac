// Package dra has the drivers of dynamic resources prepare the ResourceClaims
// of pods before their containers are made, and take them back at the pods'
// end. It does not allocate (the scheduler does), does not decide which driver
// is to be called for what (draplan does), nor puts devices into containers
// (agent/podplan does, from table Prepared).
//
// Flow: plugin -> plugins.go ; pod -> pods.go -> draplan -> plugin -> table
// Prepared -> agent/podplan ; end of a pod: agent/podplan -> Release -> pods.go.
//
// Touches: drivers over their unix sockets, one file of records, the
// ResourceSlices of this node.
//
// Invariants:
//   - A record is kept before a driver is called, and dropped after all drivers
//     have taken the claim back: whatever moment the daemon is killed at, what is
//     prepared is known afterwards.
//   - One at a time works on a claim: a pod that ends never takes away what
//     another that begins has just been told is prepared.
//   - A driver that hangs delays only pods with claims of that driver.
//   - ResourceSlices of a driver that is not there are removed, after a grace.
package dra
