// Package maglev makes look-up tables for consistent hashing: a hash modulo the
// table's length gives an endpoint. It knows nothing of Services or hashes of
// packets. Part of the flow EndpointSlice -> kernel: proxy/ebpf puts the tables
// into its maps.
//
// Pure.
//
// The algorithm is that of Eisenbud et al., "Maglev: A Fast and Reliable
// Software Network Load Balancer" (NSDI 2016), section 3.4.
//
// Invariants:
//   - Even: no endpoint has more than one place more than another.
//   - The same set of endpoints gives the same table, on every node and in every
//     order; other versions of nodelet must give it too (the golden test).
//   - When an endpoint goes, most places of the others stay as they are.
package maglev
