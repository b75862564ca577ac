// Package sim runs a packet through nf_tables rules without a kernel: what
// would these rules do? It knows the expressions that service proxies and
// firewalls use, those of iptables-nft among them; what it does not know it
// says, and follows both ways. Tables of legacy iptables and the virtual
// servers of IPVS take part where the caller has them. It reads no kernel
// (packages nft, xtables and ipvs do) and knows nothing of Services. Part of
// explain, which runs it over what the kernel holds, and of the differential test.
//
// Pure.
//
// It knows first packets of connections only: later ones follow conntrack.
//
// Invariants:
//   - Every random choice and every unknown match is followed in all its ways;
//     the outcomes' weights sum up to 1 unless Run gave up early, which it says.
//   - An outcome that rests on something unknown says what.
package sim
