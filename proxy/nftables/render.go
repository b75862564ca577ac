package nftables

import (
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"nodelet/internal/nft"
	"nodelet/proxy/lb"
)

// tableName is the same in both families.
const tableName = "nodelet-proxy"

// handoverTable is that of a back end whose endpoints IPVS chooses.
const handoverTable = "nodelet-ipvs"

// localSlots is where the slots of local endpoints begin, behind all others.
const localSlots = 1 << 16

// Names of sets and chains. Plans name theirs themselves.
const (
	setFrontends  = "frontends"
	setEndpoints  = "endpoints"
	setSources    = "sources"
	setClusterIPs = "cluster-ips"
	setElsewhere  = "elsewhere"
	setLoops      = "loops"

	chainServices   = "services"
	chainBalance    = "balance"
	chainPick       = "pick"
	chainFirst      = "first-packets"
	chainRemember   = "remember"
	chainReject     = "answer-reject"
	chainMasquerade = "mark-unless-pod"
)

// unassigned is the comment of the rules about cluster IPs that no Service has.
const unassigned = "no such cluster IP"

// forNodePorts is what the names of sets and chains for node ports begin with.
const forNodePorts = "nodeport-"

func named(nodePort bool, name string) string {
	if nodePort {
		return forNodePorts + name
	}
	return name
}

// family is what differs between the two tables.
type family struct {
	ipv6  bool
	table nft.Table
	addr  nft.Type
	// words is the number of registers an address takes.
	words    nft.Reg
	loopback netip.Prefix
	// handover: IPVS chooses endpoints where it can.
	handover bool
}

func familyOf(ipv6 bool) *family {
	if ipv6 {
		return &family{
			ipv6: true, table: nft.Table{Family: nft.IPv6, Name: tableName}, addr: nft.IPv6Addr, words: 4,
			loopback: netip.MustParsePrefix("::1/128"),
		}
	}
	return &family{
		table: nft.Table{Family: nft.IPv4, Name: tableName}, addr: nft.IPv4Addr, words: 1,
		loopback: netip.MustParsePrefix("127.0.0.0/8"),
	}
}

// keyType is the type of a frontend: an address, unless it is a node port, protocol and port.
func (f *family) keyType(nodePort bool) nft.Types {
	if nodePort {
		return nft.Types{nft.InetProto, nft.InetService}
	}
	return nft.Types{f.addr, nft.InetProto, nft.InetService}
}

// load puts a packet's frontend into registers from r on, and gives the one after them.
func (f *family) load(r nft.Reg, nodePort bool) ([]nft.Stmt, nft.Reg) {
	var s []nft.Stmt
	if !nodePort {
		s = append(s, nft.Load(r, nft.DstAddr))
		r += f.words
	}
	return append(s, nft.Load(r, nft.L4Proto), nft.Load(r+1, nft.DstPort)), r + 2
}

// frontend matches packets to the members of a set of frontends.
func (f *family) frontend(set string, nodePort bool) []nft.Stmt {
	s, _ := f.load(0, nodePort)
	return append(s, nft.Member(set, 0))
}

// set gives the definition of the set with that name, without elements.
func (f *family) set(name string) nft.Set {
	nodePort := strings.HasPrefix(name, forNodePorts)
	to := nft.Types{f.addr, nft.InetService}
	switch strings.TrimPrefix(name, forNodePorts) {
	case setEndpoints:
		return nft.Set{Name: name, Key: append(nft.Types{nft.Mark}, f.keyType(nodePort)...), Data: to}
	case mapAgain, mapAgainLocal, mapNote:
		return nft.Set{Name: name, Key: f.keyType(nodePort), Data: nft.Types{nft.Verdict}}
	case setSources:
		return nft.Set{Name: name, Key: append(f.keyType(false), f.addr), Interval: true}
	case setClusterIPs, setElsewhere:
		return nft.Set{Name: name, Key: nft.Types{f.addr}}
	case setLoops:
		return nft.Set{Name: name, Key: nft.Types{f.addr, f.addr}}
	}
	if strings.HasPrefix(name, mapClients) {
		// No size: the kernel bounds it at 65,535 clients, after which new ones are
		// balanced without affinity, and takes memory as it fills. With a size it
		// takes all of it at once: 2 MB for each port of each Service.
		return nft.Set{Name: name, Key: nft.Types{f.addr}, Data: to, Timeout: true, Dynamic: true}
	}
	return nft.Set{Name: name, Key: f.keyType(nodePort)}
}

// rejects are the plans that the constant rules name.
func rejects() []plan {
	return []plan{{action: lb.Reject}, {action: lb.Reject, guarded: true}, {action: lb.Reject, nodePort: true}}
}

// constantSets are always there.
func (f *family) constantSets() []string {
	names := []string{
		setFrontends, forNodePorts + setFrontends, setEndpoints, forNodePorts + setEndpoints, setSources, setClusterIPs, setElsewhere, setLoops,
	}
	for _, name := range []string{mapAgain, mapAgainLocal, mapNote} {
		names = append(names, name, forNodePorts+name)
	}
	for _, p := range rejects() {
		names = append(names, p.name())
	}
	if f.handover {
		names = append(names, setHanded)
	}
	return names
}

func do(s ...nft.Stmt) nft.Rule { return nft.Rule{Do: s} }

func rule(comment string, s ...[]nft.Stmt) nft.Rule {
	r := nft.Rule{Comment: comment}
	for _, part := range s {
		r.Do = append(r.Do, part...)
	}
	return r
}

// chains are the chains that are always there.
func (f *family) chains(cfg *lb.Config) []nft.Chain {
	base := func(name string, b nft.Base, rules ...nft.Rule) nft.Chain {
		return nft.Chain{Name: name, Base: &b, Rules: rules}
	}
	first := do(nft.HasBits(nft.CtState, nft.StateNew), nft.Jump(chainFirst))
	filter := func(h nft.Hook) nft.Base { return nft.Base{Type: nft.Filter, Hook: h, Priority: nft.PriorityFilter} }
	nat := func(h nft.Hook, priority int) nft.Base { return nft.Base{Type: nft.NAT, Hook: h, Priority: priority} }
	return []nft.Chain{
		{Name: chainServices, Rules: f.services(cfg)},
		{Name: chainPick, Rules: pick(cfg, chainBalance)},
		{Name: forNodePorts + chainPick, Rules: pick(cfg, forNodePorts+chainBalance)},
		{Name: chainMasquerade, Rules: f.markUnlessPod(cfg)},
		{Name: chainReject, Rules: []nft.Rule{
			do(nft.Is(nft.L4Proto, uint8(unix.IPPROTO_TCP)), nft.RejectTCPReset()),
			do(nft.RejectPortUnreachable()),
		}},
		{Name: chainFirst, Rules: f.firstPackets(cfg)},
		{Name: chainRemember, Rules: f.remember()},
		base("nat-prerouting", nat(nft.Prerouting, nft.PriorityDNAT), do(nft.Jump(chainServices))),
		base("nat-output", nat(nft.Output, nft.PriorityDNAT), do(nft.Jump(chainServices))),
		base("nat-postrouting", nat(nft.Postrouting, nft.PrioritySNAT), f.postrouting(cfg)...),
		base("filter-input", filter(nft.Input), first),
		base("filter-forward", filter(nft.Forward), first),
		base("filter-output", filter(nft.Output), first),
	}
}

// services sends packets for frontends to where their plan is found; to all
// others this is two lookups.
func (f *family) services(cfg *lb.Config) []nft.Rule {
	rules := []nft.Rule{rule("cluster IPs, load balancer IPs, external IPs",
		f.frontend(setFrontends, false), []nft.Stmt{nft.Goto(chainPick)})}
	for _, node := range f.toNode(cfg) {
		rules = append(rules, rule("node ports",
			f.frontend(forNodePorts+setFrontends, true), node, []nft.Stmt{nft.Goto(forNodePorts + chainPick)}))
	}
	return rules
}

// pick looks for a packet's endpoint, and once more when there is none. A packet
// meets the sets as they are at each lookup: a transaction that ends between two
// of them, and changes how many endpoints there are, may have taken away the plan
// or the slot that the first one has led to. What has no endpoints comes by twice.
func pick(cfg *lb.Config, balance string) []nft.Rule {
	return []nft.Rule{
		do(nft.Jump(balance)),
		{Comment: "changed between two lookups", Do: []nft.Stmt{nft.ClearBits(cfg.Mark()), nft.Goto(balance)}},
	}
}

// toNode matches packets to this node's addresses, loopback excepted unless
// asked for: one alternative for each range that node ports are limited to. It
// is asked behind the port, for the kernel looks for a route to tell it.
func (f *family) toNode(cfg *lb.Config) [][]nft.Stmt {
	local := []nft.Stmt{nft.ToLocal()}
	if !cfg.LoopbackNodePorts(f.ipv6) {
		local = append(local, nft.IsNot(nft.DstAddr, f.loopback))
	}
	ranges := cfg.NodePortRanges(f.ipv6)
	if len(ranges) == 0 {
		return [][]nft.Stmt{local}
	}
	var out [][]nft.Stmt
	for _, p := range ranges {
		out = append(out, append([]nft.Stmt{nft.Is(nft.DstAddr, p)}, local...))
	}
	return out
}

// firstPackets sees the first packet of each connection when its destination
// is settled. A translated one is remembered if its Service wants that. One
// that still goes to a frontend without endpoints, or to a port of a ClusterIP
// that is no frontend, is refused; one to a cluster IP that nobody has is dropped.
func (f *family) firstPackets(cfg *lb.Config) []nft.Rule {
	answer := []nft.Stmt{nft.Goto(chainReject)}
	rules := []nft.Rule{do(nft.HasBits(nft.CtStatus, nft.StatusDNAT), nft.Goto(chainRemember))}
	if cfg.LoopbackNodePorts(f.ipv6) {
		// route_localnet lets neighbours send here (CVE-2020-8558).
		rules = append(rules, nft.Rule{Comment: "loopback is not for others", Do: []nft.Stmt{
			nft.Is(nft.DstAddr, f.loopback), nft.IsNot(nft.SrcAddr, f.loopback), nft.Drop(),
		}})
	}
	if f.handover {
		rules = append(rules, rule("IPVS answers", f.frontend(setHanded, false), []nft.Stmt{nft.Return()}))
	}
	for _, p := range rejects() {
		if !p.nodePort {
			rules = append(rules, rule("no endpoints", f.frontend(p.name(), false), answer))
			continue
		}
		for _, node := range f.toNode(cfg) {
			rules = append(rules, rule("no endpoints", f.frontend(p.name(), true), node, answer))
		}
	}
	rules = append(rules, nft.Rule{Comment: "no such port", Do: []nft.Stmt{
		nft.Load(0, nft.DstAddr), nft.Member(setClusterIPs, 0), nft.Goto(chainReject),
	}})
	for _, p := range cfg.ServiceRanges(f.ipv6) {
		rules = append(rules, nft.Rule{Comment: unassigned, Do: []nft.Stmt{
			nft.Is(nft.DstAddr, p), nft.Load(0, nft.DstAddr), nft.NotMember(setElsewhere, 0),
			nft.IsNot(nft.DstAddrType, uint32(unix.RTN_LOCAL)), nft.Drop(),
		}})
	}
	return rules
}

// postrouting masquerades what was marked, and endpoints that reach themselves.
// The mark lives from the choice of an endpoint to here, on first packets only.
func (f *family) postrouting(cfg *lb.Config) []nft.Rule {
	ours := nft.HasBits(nft.CtStatus, nft.StatusDNAT)
	rules := []nft.Rule{
		{Comment: "marked", Do: []nft.Stmt{
			ours, nft.HasBits(nft.PacketMark, cfg.Mark()), nft.ClearBits(cfg.Mark()), nft.Masquerade(),
		}},
		{Comment: "an endpoint to itself", Do: []nft.Stmt{
			ours, nft.Load(0, nft.SrcAddr), nft.Load(f.words, nft.DstAddr), nft.Member(setLoops, 0), nft.Masquerade(),
		}},
	}
	if f.handover {
		rules = append(rules, f.postroutingIPVS(cfg)...)
	}
	return rules
}

func (f *family) markUnlessPod(cfg *lb.Config) []nft.Rule {
	var rules []nft.Rule
	for _, pods := range f.fromPods(cfg) {
		rules = append(rules, do(pods, nft.Return()))
	}
	return append(rules, do(nft.SetBits(cfg.Mark())))
}

// fromPods matches the traffic of local pods, one alternative each. What the
// node sends has an interface without a name, which is nobody's.
func (f *family) fromPods(cfg *lb.Config) (out []nft.Stmt) {
	switch cfg.Local.Mode {
	case lb.ByBridge:
		return []nft.Stmt{nft.Is(nft.InIf, cfg.Local.Link)}
	case lb.ByLinkPrefix:
		return []nft.Stmt{nft.Is(nft.InIf, cfg.Local.Link+"*")}
	}
	for _, p := range cfg.LocalRanges(f.ipv6) {
		out = append(out, nft.Is(nft.SrcAddr, p))
	}
	return out
}

// dispatch is the rule that sends the frontends of a plan to its chain.
func (f *family) dispatch(p plan) nft.Rule {
	return rule(p.name(), f.frontend(p.name(), p.nodePort), []nft.Stmt{nft.Goto(p.name())})
}

// chainOf gives the chain of a plan, and the plans to whose chains it goes on.
func (f *family) chainOf(cfg *lb.Config, p plan) (c nft.Chain, more []plan) {
	c.Name = p.name()
	add := func(comment string, s ...nft.Stmt) { c.Rules = append(c.Rules, nft.Rule{Comment: comment, Do: s}) }
	if p.guarded {
		key, next := f.load(0, false)
		add("source ranges", append(key, nft.Load(next, nft.SrcAddr), nft.NotMember(setSources, 0), nft.Drop())...)
	}
	switch p.action {
	case lb.Drop:
		add("no endpoint on this node", nft.Drop())
		return c, nil
	case lb.Reject: // first-packets answers: NAT chains cannot
		return c, nil
	}
	if p.policy == external {
		pods, node := p.from(never), p.from(always)
		for _, match := range f.fromPods(cfg) {
			add("pods: any endpoint", match, nft.Goto(pods.name()))
		}
		add("this node: any endpoint", nft.FromLocal(), nft.Goto(node.name()))
		more = []plan{pods, node}
		if p.local == 0 {
			add("no endpoint on this node", nft.Drop())
			return c, more
		}
	}
	switch p.masq {
	case always:
		add("", nft.SetBits(cfg.Mark()))
	case unlessPod:
		add("", nft.Jump(chainMasquerade))
	}
	if p.handed {
		return c, more
	}
	if p.sticky {
		add("the client's endpoint", f.ask(p.nodePort, p.policy != clusterWide)...)
	}
	n, offset := p.cluster, 0
	if p.policy != clusterWide {
		n, offset = p.local, localSlots
	}
	key, _ := f.load(1, p.nodePort)
	add("any endpoint", append(append([]nft.Stmt{nft.LoadRandom(0, uint32(n), uint32(offset))}, key...), f.dnat(named(p.nodePort, setEndpoints))...)...)
	return c, more
}

// dnat sends the packet to where a map says for the key from register 0 on.
func (f *family) dnat(set string) []nft.Stmt {
	to := 2*f.words + 2 // behind the longest key
	return []nft.Stmt{nft.Lookup(set, 0, to), nft.DNAT(to, to+f.words)}
}
