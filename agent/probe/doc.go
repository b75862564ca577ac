// Package probe runs the startup, liveness and readiness probes of containers
// and keeps their verdicts in store.Probes. It does not decide what a verdict
// leads to (agent/podplan does) nor run handlers itself (agent/handler does).
// Part of the flow Pods + Runtime -> probeplan.Next -> handler -> probeplan.After -> store.Probes -> podplan.
//
// Touches: what the handlers touch; the file in which verdicts and counts are kept.
//
// Invariants: between two runs a probe is a timer and no goroutine, and a pod
// without probes is nothing at all; a probe that hangs delays no other; the
// table changes only when a verdict does; verdicts and counts of containers that
// ran before the daemon started are what the last process kept of them, and
// without that what the API says.
package probe
