// Package wire reads DNS queries and writes DNS replies at the level of bytes:
// exactly the part of the message format that the hot path needs. It is not a
// DNS library: everything that is not on the hot path uses miekg/dns, in
// package dns. Part of the flow "DNS query -> answer".
//
// Pure.
//
// Invariants:
//   - No input, however malformed, makes it panic or read out of bounds.
//   - Neither Parse nor any Append allocates when the destination has room.
//   - The question of a reply is the question of the query byte for byte, so
//     the case of the name is kept, and a pointer to offset 12 names it.
package wire
