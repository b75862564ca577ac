// Package nftables is the back end that tells nf_tables what lb.State means. It
// decides nothing about Services. Part of the flow EndpointSlice -> kernel:
// plan.go and render.go (what a State is in sets and chains), whole.go (all of it),
// diff.go (what has to change), observe.go (what the kernel has), apply.go (the only file that
// touches it).
//
// Touches: the tables "ip nodelet-proxy" and "ip6 nodelet-proxy".
//
// The number of chains does not depend on the number of Services. All
// frontends that are treated alike (so many endpoints, this policy, ...: a
// plan) are members of one set and share one chain, which draws a random slot
// below the number of endpoints and looks it up:
//
//	set frontends           address . protocol . port   whatever is balanced or dropped
//	set <plan>              address . protocol . port   one for each plan in use
//	map endpoints           slot . address . protocol . port : endpoint address . port
//	map again, note         address . protocol . port : chain   with session affinity (see affinity.go)
//	map clients-<port>      client : endpoint   of a port with affinity, made by rules
//	set sources             address . protocol . port . client range   (load balancer IPs)
//	set cluster-ips         address                     other ports there are refused
//	set loops               address . address           endpoints on this node
//
// Node ports have sets and a map of their own, without the address. A change
// of an endpoint costs a few elements; chains, rules and verdicts stay as they
// are, for a change of those makes the kernel check the whole table again.
//
// Invariants:
//   - One Apply is one transaction for both families; only a table that is not there yet may
//     take several, and packets meet it with the last.
//   - An endpoint keeps its slot as long as it stays: what a restarted daemon
//     finds is what it would have written.
//   - Other programs' bits of the packet mark are never touched.
//   - Established connections live in conntrack: no change here ends one.
//   - "nft list ruleset" must be able to print every rule (see nft.Reg).
package nftables
