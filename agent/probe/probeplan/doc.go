// Package probeplan decides about one probe of one container: whether to run
// it now, when to look again, and which verdict stands. It runs nothing
// (agent/probe does). Part of the flow Pods + Runtime + Probes -> Next ->
// agent/probe -> handler -> After -> store.Probes -> podplan.
//
// Pure.
//
// Invariants: a verdict belongs to one container id and starts anew with the
// next; without any memory (State zero) the verdict of a container that was
// running before is what the API says of it, so that a restart of the daemon
// changes nothing.
package probeplan
