// Package shutdown ends the pods of the node in order before the machine goes
// down: what the kubelet calls graceful node shutdown. It does not decide the
// order (shutdownplan does), stops no container (agent/podplan plans that from
// table Evictions) and speaks no D-Bus (internal/logind does).
//
// Flow: logind -> Shutdown.follow -> shutdownplan.Make -> Deps.End -> table
// Evictions -> agent/podplan -> ... -> the lock is released -> logind goes on.
//
// Touches: an inhibitor lock of logind, a file with the times of the last shutdown.
//
// Invariants: without logind, nothing of this happens and the node works all
// the same; a shutdown is never delayed by more than the periods together.
package shutdown
