// Package ruleset is the nftables table "inet nodelet-cni": masquerade of what
// pods send out of the cluster, and host ports.
//
// It has no forward chain: an accept there would not override a drop in
// anybody else's chain, and without one packets are forwarded anyway. Foreign
// firewalls are package cni's concern (firewall.go).
//
// Flow: cni/attach (pods with host ports) and cni (the daemon, at start, on
// change and on drift) -> Make -> nft.Conn.Ensure -> kernel.
//
// Touches: nothing; the table is a value.
//
// Invariants:
//   - The table follows from network and leases alone, so daemon and plugin
//     write the same one, and either repairs what somebody has flushed.
//   - A host port is translated only when the packet was sent to an address of
//     this host (CVE-2025-67499), never from one loopback address to another:
//     the answer could come back only with route_localnet (CVE-2020-8558).
package ruleset
