// Package csitest is a CSI node driver for tests: real gRPC on unix sockets,
// real mounts, faults and delays on by default, and a strict eye on the order
// of the calls. It knows nothing of pods. It is part of no flow.
//
// Touches: mounts at the paths it is told, files below its own directory.
//
// Invariants: what is written to a volume stays in the driver's directory,
// whatever is staged and published; every breach of the CSI specification by
// the caller is kept in Breaches.
package csitest
