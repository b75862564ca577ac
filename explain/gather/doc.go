// Package gather reads the facts that an answer of explain rests on: from the
// daemon's snapshot, and from the kernel by way of the doors in internal. It
// judges nothing. Part of the flow nodelet explain -> control socket -> Facts
// -> explain.Explain.
//
// Touches: reads nf_tables, conntrack, routes, neighbours, sysctls and sockets
// of the node's network namespace, and links and sockets of its pods'. It
// changes nothing and sends no packet.
//
// Invariant: what could not be read is noted as such.
package gather
