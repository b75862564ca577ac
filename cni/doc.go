// Package cni is the pod network of the node, as far as the daemon does it: it
// writes the network configuration for the runtime, sets sysctls, keeps the
// nftables table and the routes to other nodes, sweeps up after sandboxes that
// are gone, and repairs what others have removed. Attaching pods is nodelet-cni's
// work (cni/plugin), which needs no daemon.
//
// Flow: store (Nodes) -> cni.go sync -> network.go (pure) -> sysctls,
// attachments, table, routes, firewall -> conflist, last: the runtime calls the
// network ready when it is there.
//
// Touches: the configuration and state directories, sysctls, routes of proto
// 77, links of group 77, table inet nodelet-cni, and accept rules in the forward
// chains of foreign firewalls (firewall.go).
//
// Invariants:
//   - Nothing is removed before the Nodes table is synced; losing the API
//     leaves everything as it is.
//   - A restarted daemon needs no memory: routes are ours by their protocol
//     number, links by their group, tables and chains by their names.
//   - net.ipv4.conf.*.route_localnet is never set.
package cni
