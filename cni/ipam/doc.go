// Package ipam gives out pod addresses from the node's ranges: the state as a
// value, and functions from one state to the next, and its text form.
//
// It does not read or write files (cni/ipam/file) and knows nothing of links.
//
// Flow: cni/plugin ADD -> file.Dir.Update(ipam.Allocate) -> linkplan.Make.
//
// Pure.
//
// Invariants:
//   - No address belongs to two leases; none lies outside its range when given out.
//   - A veth name has one lease: the same request gets the same addresses again.
//   - A freed address is given out last: the search goes on after the last one
//     given out and wraps around (connections and caches that remember the old
//     pod have time to end).
//   - Functions leave the state they are given alone.
package ipam
