// Package linkplan decides what a pod's network attachment consists of: the
// veth pair, addresses, routes, neighbours and sysctls on both ends, and limits
// of bandwidth on the host's, for a routed network without a bridge.
//
// It does not choose addresses (cni/ipam) and changes nothing (cni/link).
//
// Flow: runtime execs nodelet-cni -> cni/plugin -> linkplan.Make -> link.Apply.
//
// Pure.
//
// Invariants:
//   - The same request gives the same names and MAC addresses, so a repeated
//     ADD, a DEL without any record, and a restarted daemon find what is there.
//   - The pod reaches everything through one next hop that exists nowhere
//     (169.254.1.1, fe80::1) behind permanent neighbour entries: no ARP, no
//     NDP, no address of the node inside the pod.
//   - The host end accepts neither router advertisements nor redirects
//     (CVE-2020-10749) and checks source addresses; route_localnet is never set.
package linkplan
