// Package deviceplan decides which devices of a plugin a container gets. It
// talks to no plugin (agent/exclusive does). Part of the flow pod ->
// agent/exclusive -> Choose -> plugin -> table Grants -> agent/podplan.
//
// Pure.
//
// Invariants: no device is given to two containers that can run at the same
// time; what an init container had goes on to those after it before anything
// else is taken; only healthy devices are given.
package deviceplan
