// Package cri is the client of the container runtime: CRI v1, the events of containerd that CRI has no call
// for, and nothing of pods.
//
// It hands requests to a runtime behind a unix socket (Dial) or inside this process
// (InProcess, used by cri/embedded and cri/critest) through one interface, Runtime. It does not
// retry, does not cache, does not decide: names, attempts, back-off and adoption belong to the
// agent.
//
// Flow: agent/execute.go -> cri.Runtime -> runtime; runtime -> Client.Events -> agent/observe.go;
// containerd -> Client.Exits -> agent/exits.go.
//
// Touches: the runtime's socket.
//
// Invariants:
//   - A runtime that is down never fails construction; every call says clearly that it is down.
//   - Every call but pulls, streams and calls with a time-out of their own has a deadline.
//   - What a runtime can do is learnt from what it answers (Unimplemented), never from its version.
//   - Requests must not be changed after they were handed over, and responses are read-only: an
//     in-process runtime keeps the one and shares the other.
package cri
