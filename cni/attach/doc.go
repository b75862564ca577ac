// Package attach carries one attachment from lease to link and back: the order
// of the steps, shared by the plugin and the daemon.
//
// It decides neither addresses (cni/ipam) nor links (cni/linkplan).
//
// Flow: cni/plugin ADD, DEL, GC and cni (the daemon's sweep) -> Node.Add,
// Node.Release -> ipam/file, link, ruleset.
//
// Touches: the state directory, links of two namespaces, the nftables table of
// cni/ruleset (only for attachments with host ports).
//
// Invariants:
//   - What is to be found again is written down before it is made: a process
//     killed at any step leaves a lease, which a repeated ADD takes over and
//     which DEL, GC and the daemon's sweep release.
//   - A host port is closed before its pod's link goes, and an address is free
//     only after its link is gone.
package attach
