// Package dns is the cluster's DNS on this node: it answers for the cluster
// domain out of the store and forwards the rest to the host's resolvers, with a
// cache. It does not decide what the zone says (dns/zone does) and is nobody's
// recursive resolver: without resolvers on the host, outside names fail.
//
// Flow "DNS query -> answer": server.go (batched reads) -> chain.go -> cluster.go
// (atomic load of the zone, zone.Answer) | cache.go | forward.go -> batched writes.
// The zone follows the store by a reconcile.Loop (dns.go: sync).
//
// Touches: UDP and TCP sockets on the configured addresses, those addresses on
// the loopback link, the nftables table "inet nodelet-dns", resolv.conf (read),
// UDP and TCP to the host's resolvers.
//
// Invariants:
//   - No lock, no store read and no allocation between the arrival of a query
//     for a cluster name and its reply.
//   - Before the tables are synced cluster names get SERVFAIL, never NXDOMAIN;
//     after the API is lost the last zone stays.
//   - All that waits or is kept is bounded by a named limit in Limits.
//   - Addresses and rules stay when the daemon ends, so that pods get answers
//     again the moment it is back; Cleanup removes them.
package dns
