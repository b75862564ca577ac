// Package lb says what Services mean on this node: which frontends exist, where
// each sends a packet, by source, and why an endpoint is in or out. It does not
// know how a kernel is told (the back ends do) nor what happens to one packet
// (package eval does). Part of the flow EndpointSlice -> kernel: Advance ->
// compile -> Select here, then a back end, then Stale here.
//
// Pure.
//
// Invariants:
//   - Advance over any history gives the same State as Compile from scratch.
//   - A State never changes; Advance costs what changed, not what exists.
//   - Two States share the values that did not change: Diff compares pointers.
//   - A frontend that two Services claim goes to the one with the stronger kind
//     of claim (a ClusterIP before all), then to the smaller key, whatever the
//     order in which they came.
//   - ClusterIPs are unique, as the API server promises: the ClusterIP and port
//     of a Port name it.
package lb
