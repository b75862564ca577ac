package ruleset

import (
	"net/netip"

	"nodelet/cni/ipam"
	"nodelet/internal/nft"
)

// OwnPrefix begins the names of all tables that belong to parts of nodelet.
const OwnPrefix = "nodelet-"

// Table is the name of the table this package owns.
func Table() nft.Table { return nft.Table{Family: nft.Inet, Name: OwnPrefix + "cni"} }

// Network is what the table must know of the node.
type Network struct {
	// Pods are the ranges of this node's pods.
	Pods []netip.Prefix
	// Inside are the destinations that pods reach with their own address: the
	// pods of all nodes and the Services.
	Inside []netip.Prefix
}

// The chains come after those of the service proxy at the same hook, which are
// at the customary priorities: a Service's translation wins over a host port,
// always and not by chance of who registered first.
const (
	priorityDNAT = nft.PriorityDNAT + 1
	prioritySNAT = nft.PrioritySNAT + 1
)

// dstNAT is the connection status bit IPS_DST_NAT.
const dstNAT = 0x20

// Names of maps and sets, one of each per family.
const (
	portsAny = "hostports-any"
	portsIP  = "hostports-ip"
	hairpins = "hairpins"
	toPorts  = "hostports"
)

type protoFamily struct {
	suffix   string
	family   nft.Family
	addr     nft.Type
	is       func() nft.Stmt
	src, dst nft.Field
	loopback netip.Prefix
	// everybody are the multicast destinations; masquerading those breaks protocols that name the sender.
	everybody netip.Prefix
	// words is the length of an address in registers.
	words nft.Reg
}

func families() []protoFamily {
	return []protoFamily{
		{"4", nft.IPv4, nft.IPv4Addr, nft.IsIPv4, nft.SrcAddr4, nft.DstAddr4,
			netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("224.0.0.0/4"), 1},
		{"6", nft.IPv6, nft.IPv6Addr, nft.IsIPv6, nft.SrcAddr6, nft.DstAddr6,
			netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("ff00::/8"), 4},
	}
}

func (f protoFamily) has(a netip.Addr) bool { return a.Is4() == (f.family == nft.IPv4) }

// Make is the table for a node with these attachments.
func Make(network Network, leases []ipam.Lease) nft.Ruleset {
	rs := nft.Ruleset{Table: Table()}
	ports := nft.Chain{Name: toPorts}
	out := nft.Chain{Name: "output", Base: &nft.Base{Type: nft.NAT, Hook: nft.Output, Priority: priorityDNAT}}
	in := nft.Chain{Name: "prerouting", Base: &nft.Base{Type: nft.NAT, Hook: nft.Prerouting, Priority: priorityDNAT}}
	post := nft.Chain{Name: "postrouting", Base: &nft.Base{Type: nft.NAT, Hook: nft.Postrouting, Priority: prioritySNAT}}
	for _, f := range families() {
		rs.Sets = append(rs.Sets, f.sets(leases)...)
		ports.Rules = append(ports.Rules, f.portRules()...)
		out.Rules = append(out.Rules, nft.Rule{Comment: "no way back for answers to loopback",
			Do: []nft.Stmt{f.is(), nft.Is(f.src, f.loopback), nft.Is(f.dst, f.loopback), nft.Return()}})
		post.Rules = append(post.Rules, f.sourceRules(network)...)
	}
	toHostPorts := nft.Rule{Comment: "host ports, on addresses of this host only", Do: []nft.Stmt{nft.ToLocal(), nft.Jump(toPorts)}}
	in.Rules = append(in.Rules, toHostPorts)
	out.Rules = append(out.Rules, toHostPorts)
	rs.Chains = []nft.Chain{ports, in, out, post}
	return rs
}

// sets are the host ports of a family, and the pods that may meet themselves behind one.
func (f protoFamily) sets(leases []ipam.Lease) []nft.Set {
	to := nft.Types{f.addr, nft.InetService}
	anyIP := nft.Set{Name: portsAny + f.suffix, Key: nft.Types{nft.InetProto, nft.InetService}, Data: to}
	oneIP := nft.Set{Name: portsIP + f.suffix, Key: nft.Types{f.addr, nft.InetProto, nft.InetService}, Data: to}
	self := nft.Set{Name: hairpins + f.suffix, Key: nft.Types{f.addr, f.addr}}
	for _, l := range leases {
		for _, a := range l.Addrs {
			if !f.has(a) || len(l.Ports) == 0 {
				continue
			}
			self.Elements = append(self.Elements, nft.Element{Key: nft.Bytes(a, a)})
			for _, p := range l.Ports {
				data := nft.Bytes(a, p.PodPort)
				switch {
				case !p.HostIP.IsValid():
					anyIP.Elements = append(anyIP.Elements, nft.Element{Key: nft.Bytes(protoNumber(p.Proto), p.HostPort), Data: data})
				case f.has(p.HostIP):
					oneIP.Elements = append(oneIP.Elements, nft.Element{Key: nft.Bytes(p.HostIP, protoNumber(p.Proto), p.HostPort), Data: data})
				}
			}
		}
	}
	return []nft.Set{anyIP, oneIP, self}
}

// Registers 0 to 3 are scratch of the simple statements; keys start at 4.
const key = nft.Reg(4)

// portRules look the destination up, the one with an address first. Key and
// data are whole registers; the data may overwrite the key.
func (f protoFamily) portRules() []nft.Rule {
	return []nft.Rule{
		{Do: []nft.Stmt{f.is(), nft.Load(key, f.dst), nft.Load(key+f.words, nft.L4Proto), nft.Load(key+f.words+1, nft.DstPort),
			nft.Lookup(portsIP+f.suffix, key, key), nft.DNATFamily(f.family, key, key+f.words)}},
		{Do: []nft.Stmt{f.is(), nft.Load(key, nft.L4Proto), nft.Load(key+1, nft.DstPort),
			nft.Lookup(portsAny+f.suffix, key, key), nft.DNATFamily(f.family, key, key+f.words)}},
	}
}

// sourceRules choose what leaves with the node's address.
func (f protoFamily) sourceRules(network Network) []nft.Rule {
	rules := []nft.Rule{{Comment: "a pod that meets itself behind a host port", Do: []nft.Stmt{
		nft.HasBits(nft.CtStatus, dstNAT), f.is(), nft.Load(key, f.src), nft.Load(key+f.words, f.dst),
		nft.Member(hairpins+f.suffix, key), nft.Masquerade(),
	}}}
	for _, pods := range network.Pods {
		if !f.has(pods.Addr()) {
			continue
		}
		from := []nft.Stmt{f.is(), nft.Is(f.src, pods)}
		for _, inside := range append([]netip.Prefix{f.everybody}, network.Inside...) {
			if f.has(inside.Addr()) {
				rules = append(rules, nft.Rule{Do: append(from[:2:2], nft.Is(f.dst, inside), nft.Return())})
			}
		}
		rules = append(rules, nft.Rule{Comment: "pods to outside the cluster", Do: append(from[:2:2], nft.Masquerade())})
	}
	return rules
}

func protoNumber(proto string) uint8 {
	// IANA protocol numbers.
	return map[string]uint8{"tcp": 6, "udp": 17, "sctp": 132}[proto]
}
