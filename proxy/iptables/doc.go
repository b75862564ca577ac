// Package iptables is the back end that tells iptables, in its legacy or its
// nf_tables variant, what lb.State means. It decides nothing about Services.
// Part of the flow EndpointSlice -> kernel: render.go (what a State is in
// chains), content.go (what has to change), observe.go (what the kernel has),
// apply.go (the only file that touches it).
//
// Touches: chains whose names begin with "NDP-" in the tables nat and filter,
// and the jumps to them from the built-in chains, through internal/xtables.
//
//	PREROUTING, OUTPUT      -> NDP-SERVICES -> NDP-V-<n> -> NDP-V-<nn>   one rule per address and port
//	                                        -> NDP-N -> NDP-N-<proto>-<range>   node ports
//	NDP-C-<port>            the endpoints of policy Cluster, each with its probability
//	NDP-L-<port>            those of policy Local
//	NDP-X-<port>            policy Local as seen from pods, the node, outside
//	NDP-F-<port>            source ranges
//	NDP-E-<endpoint>        an endpoint on this node: masqueraded when it calls itself
//	POSTROUTING             -> NDP-POST masquerades
//	INPUT, FORWARD, OUTPUT  -> NDP-FIRST refuses and drops first packets that were not translated
//
// Frontends are spread over chains by the last byte of their address, so that
// a packet meets some dozen rules where kube-proxy's has one for each Service.
//
// Invariants:
//   - Rules are written as iptables-save prints them: what is there is compared as text.
//   - A table of one family is one transaction; a chain is written as a whole or not at all.
//   - The mark counts only together with conntrack's status DNAT.
//   - Other programs' chains and rules are never touched.
package iptables
