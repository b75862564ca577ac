// Package plugin is what the program nodelet-cni does: the CNI verbs ADD, DEL,
// CHECK, GC, STATUS and VERSION (spec 1.1) over the state of cni/ipam and the
// links of cni/link.
//
// It needs no daemon and talks to none: everything it must know is in the
// network configuration that the daemon has written. It sets loopback up too,
// so no other plugin is needed; called under the type "loopback" it does only
// that.
//
// Flow: container runtime -> cmd/nodelet-cni -> plugin.Run -> ipam.Allocate ->
// linkplan.Make -> link.Apply.
//
// Touches: the state directory, links of two namespaces, and, for pods with
// host ports, the nftables table of cni/ruleset.
//
// Invariants:
//   - What is to be found again is written before it is made: a process killed
//     at any step leaves a lease that a repeated ADD takes over and that DEL and
//     GC release.
//   - DEL succeeds when there is nothing (left) to delete.
package plugin
