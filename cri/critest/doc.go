// Package critest is a container runtime in memory: a CRI v1 server with containerd's state machine,
// scripted delays and faults, and one fault in ten calls by default.
//
// It runs no processes, has no network and writes no files; what containers do is a Program. It is
// meant for property tests of the agent: any interleaving of faults, crashes and changes must end in
// the state that no faults would have given.
//
// Flow: a test -> New -> Server.Runtime (in-process) or Server.Serve (a unix socket, for crictl or a
// real kubelet) -> the code under test; the test reads Containers, Sandboxes, Incidents and String.
//
// Touches: nothing; with Serve, one socket.
//
// Invariants:
//   - The fault of a call depends on the seed, the call's name, the object's name and how often it
//     was called with that, never on the order in which goroutines came: a seed reproduces a run.
//   - Ids are derived from names, so that two runs can be compared.
//   - A call whose context ends undoes its reservation, as containerd does; only the faults Lose and
//     Linger leave behind what the caller does not know of.
//   - Time is read and waited for only through package time: it works in a testing/synctest bubble.
package critest
