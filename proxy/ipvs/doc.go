// Package ipvs is the back end where the kernel's IPVS chooses the endpoints. It decides nothing about Services.
// Part of the flow EndpointSlice -> kernel: plan.go (what a State is in virtual and real servers, and the steps
// from what is there to it: pure), apply.go (the only file that touches the kernel), detect.go (can this kernel?).
//
// Touches: the link nodelet-ipvs0 and the addresses on it, virtual servers at those addresses, sysctls below
// net/ipv4/vs, and the nftables tables "nodelet-ipvs" by way of package nftables.
//
// IPVS is only asked for the choice. Who may use a frontend, what is refused or dropped, and whose source address
// becomes the node's is said by the same rules as in mode nftables, and frontends that IPVS cannot serve as
// Kubernetes means them (nftables.HandedOver says which and why) are balanced by those rules as well: node ports,
// session affinity, externalTrafficPolicy Local, endpoints on the node's own addresses.
//
// Invariants:
//   - A virtual server is ours when its address is on nodelet-ipvs0. All others are left alone.
//   - The address of a virtual server comes before it and goes after it.
//   - An endpoint that leaves gets weight 0 and goes when its last connection has ended; for UDP, only as long as it
//     serves. With the last one, its virtual server goes.
package ipvs
