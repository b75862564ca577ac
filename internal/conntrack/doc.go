// Package conntrack is the door to the kernel's connection tracking table: it
// lists flows and deletes those that a caller picks. It does not know which
// flows are wrong. Part of the flow EndpointSlice -> kernel, at its end.
//
// Touches: netlink (ctnetlink) in one network namespace.
//
// Invariants: only flows that the caller's function picked are deleted.
package conntrack
