package iptables

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"nodelet/internal/model"
	"nodelet/proxy/lb"
)

// prefix begins the names of all our chains; kube-proxy's begin with KUBE-,
// nodelet-cni's with NODELET-.
const prefix = "NDP-"

// The chains that are always there.
const (
	chainServices   = prefix + "SERVICES"
	chainNodePorts  = prefix + "N"
	chainMasquerade = prefix + "MASQ"
	chainPost       = prefix + "POST"
	chainFirst      = prefix + "FIRST"
	chainForward    = prefix + "FORWARD"
	chainReject     = prefix + "REJECT"
	chainUnassigned = prefix + "NOBODY"
)

// tables in the order in which they are written: first the way to say no, then
// the way to somewhere.
var tables = [2]string{"filter", "nat"}

const (
	filter = iota
	nat
)

// rules are chains by name, each with its rules in order, without "-A name".
type rules map[string][]string

func (r rules) len() (n int) {
	for _, rs := range r {
		n += len(rs)
	}
	return n
}

// renderer writes rules for one family.
type renderer struct {
	ipv6    bool
	liberal bool
	cfg     *lb.Config
}

func (r *renderer) loopback() string {
	if r.ipv6 {
		return "::1/128"
	}
	return "127.0.0.0/8"
}

func host(a netip.Addr) string { return netip.PrefixFrom(a, a.BitLen()).String() }

// pods matches the traffic of local pods, one alternative each. What the node
// sends has an interface without a name, which is nobody's.
func (r *renderer) pods() (out []string) {
	switch r.cfg.Local.Mode {
	case lb.ByBridge:
		return []string{"-i " + r.cfg.Local.Link}
	case lb.ByLinkPrefix:
		return []string{"-i " + r.cfg.Local.Link + "+"}
	}
	for _, p := range r.cfg.LocalRanges(r.ipv6) {
		out = append(out, "-s "+p.String())
	}
	return out
}

func (r *renderer) mark() string {
	return fmt.Sprintf("-j MARK --set-xmark 0x%x/0x%x", r.cfg.Mark(), r.cfg.Mark())
}

// jump is a rule of ours in a built-in chain.
type jump struct{ table, chain, rule string }

// jumps are put first in their chains.
func jumps() []jump {
	comment := func(s string) string { return `-m comment --comment "` + s + `"` }
	first := "-m conntrack --ctstate NEW " + comment("nodelet: refused Services") + " -j " + chainFirst
	services := comment("nodelet: Services") + " -j " + chainServices
	return []jump{
		{"nat", "PREROUTING", services}, {"nat", "OUTPUT", services},
		{"nat", "POSTROUTING", comment("nodelet: masquerade") + " -j " + chainPost},
		{"filter", "INPUT", first}, {"filter", "OUTPUT", first},
		{"filter", "FORWARD", comment("nodelet: forward Services") + " -j " + chainForward},
	}
}

// constant gives the chains that do not depend on Services, by table. Those
// that lead on to others are content's to complete.
func (r *renderer) constant() [2]rules {
	mark := r.cfg.Mark()
	var unlessPod []string
	for _, pods := range r.pods() {
		unlessPod = append(unlessPod, pods+" -j RETURN")
	}
	unreachable := "icmp-port-unreachable"
	if r.ipv6 {
		unreachable = "icmp6-port-unreachable"
	}
	out := [2]rules{}
	out[nat] = rules{
		chainMasquerade: append(unlessPod, r.mark()),
		chainPost: {
			fmt.Sprintf("-m mark ! --mark 0x%x/0x%x -j RETURN", mark, mark),
			"-m conntrack ! --ctstate DNAT -j RETURN",
			fmt.Sprintf("-j MARK --set-xmark 0x0/0x%x", mark),
			"-j MASQUERADE --random-fully",
		},
	}
	if r.cfg.LoopbackNodePorts(r.ipv6) {
		out[nat][chainPost] = slices.Insert(out[nat][chainPost], 2, r.localhost())
	}
	out[filter] = rules{
		chainReject: {"-p tcp -j REJECT --reject-with tcp-reset", "-j REJECT --reject-with " + unreachable},
		// Nearly all packets are of a connection that stands: one rule is all they see. As kube-proxy does,
		// what we translated passes a firewall that forwards nothing by itself.
		chainForward: {"-m conntrack --ctstate RELATED,ESTABLISHED -m conntrack --ctstate DNAT -j ACCEPT"},
	}
	if !r.liberal {
		// Else a late packet of a translated connection is answered by a reset (kubernetes#74839).
		out[filter][chainForward] = append(out[filter][chainForward], dropInvalid)
	}
	out[filter][chainForward] = append(out[filter][chainForward],
		"-m conntrack --ctstate NEW -j "+chainFirst,
		fmt.Sprintf("-m mark --mark 0x%x/0x%x -m conntrack --ctstate DNAT -j ACCEPT", mark, mark),
	)
	return out
}

// dropInvalid is the rule against packets that conntrack finds invalid; its counter is a metric.
const dropInvalid = "-m conntrack --ctstate INVALID -j DROP"

// localhost counts what was let in to node ports on loopback addresses, and does nothing else: only
// such connections are translated, to be masqueraded, and first went to loopback.
func (r *renderer) localhost() string { return "-m conntrack --ctorigdst " + r.loopback() }

// toNode lists the matches of packets to node ports.
func (r *renderer) toNode() (out []string) {
	local := "-m addrtype --dst-type LOCAL"
	ranges := r.cfg.NodePortRanges(r.ipv6)
	if len(ranges) == 0 {
		if r.cfg.LoopbackNodePorts(r.ipv6) {
			return []string{local}
		}
		return []string{"! -d " + r.loopback() + " " + local}
	}
	for _, p := range ranges {
		if loopback := netip.MustParsePrefix(r.loopback()); r.cfg.LoopbackNodePorts(r.ipv6) || !loopback.Overlaps(p) {
			out = append(out, "-d "+p.String()+" "+local)
		}
	}
	return out
}

// portID names the chains of a port; it lasts as long as the port.
func portID(p *lb.Port) string {
	return digest(fmt.Sprintf("%s/%s/%s/%s", p.Service, p.Name, p.Proto, p.ClusterIP))
}

// digest is short enough for the 28 letters of a chain's name.
func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base32.StdEncoding.EncodeToString(sum[:10])
}

func proto(p model.Protocol) string { return strings.ToLower(p.String()) }

// portChains gives the chains of a port that can be used.
func (r *renderer) portChains(p *lb.Port) rules {
	id, out := portID(p), rules{}
	if len(p.Cluster) > 0 {
		name := prefix + "C-" + id
		out[name] = append(r.masquerade(p, !p.InternalLocal, !p.ExternalLocal), r.balance(p, p.Cluster, out)...)
	}
	if len(p.Local) > 0 {
		name := prefix + "L-" + id
		out[name] = append(r.masquerade(p, p.InternalLocal, false), r.balance(p, p.Local, out)...)
	}
	if p.ExternalLocal {
		out[prefix+"X-"+id] = r.external(p, id)
	}
	if r.guarded(p) {
		var in []string
		for _, s := range p.Sources {
			in = append(in, fmt.Sprintf("-s %s -g %s", s, r.entry(p, id)))
		}
		out[prefix+"F-"+id] = append(in, "-j ACCEPT")
	}
	return out
}

// guarded: some frontend is a load balancer's, and only for certain sources.
func (r *renderer) guarded(p *lb.Port) bool {
	if len(p.Sources) == 0 {
		return false
	}
	for _, c := range p.Others {
		if c.Kind == lb.LoadBalancerIP {
			return true
		}
	}
	return false
}

// masquerade marks at the top of a policy's chain: what comes for the
// ClusterIP unless from a pod, what comes for any other frontend always.
func (r *renderer) masquerade(p *lb.Port, clusterIP, others bool) (out []string) {
	ip := host(p.ClusterIP.Addr())
	if clusterIP {
		switch {
		case r.cfg.MasqueradeAll:
			out = append(out, "-d "+ip+" "+r.mark())
		case r.cfg.KnowsPods(r.ipv6):
			out = append(out, "-d "+ip+" -j "+chainMasquerade)
		}
	}
	if others && len(p.Others) > 0 {
		out = append(out, "! -d "+ip+" "+r.mark())
	}
	return out
}

// external is policy Local: pods and the node itself reach all endpoints, as
// if they had left the cluster and come back.
func (r *renderer) external(p *lb.Port, id string) (out []string) {
	if len(p.Cluster) > 0 {
		for _, pods := range r.pods() {
			out = append(out, fmt.Sprintf("%s -g %sC-%s", pods, prefix, id))
		}
		out = append(out, "-m addrtype --src-type LOCAL "+r.mark(),
			fmt.Sprintf("-m addrtype --src-type LOCAL -g %sC-%s", prefix, id))
	}
	if len(p.Local) > 0 {
		return append(out, fmt.Sprintf("-g %sL-%s", prefix, id))
	}
	return append(out, "-j ACCEPT") // not translated: filter drops it
}

// balance gives the rules that choose one of eps, and adds chains for those that need one.
func (r *renderer) balance(p *lb.Port, eps []lb.Endpoint, more rules) (out []string) {
	name := func(e lb.Endpoint) string { return digest(portID(p) + "/" + e.AddrPort.String()) }
	recent := func(e lb.Endpoint, how string) string {
		mask := "255.255.255.255"
		if r.ipv6 {
			mask = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
		}
		return fmt.Sprintf("-m recent %s --name %s%s --mask %s --rsource ", how, prefix, name(e), mask)
	}
	dnat := func(e lb.Endpoint) string { return "-j DNAT --to-destination " + e.AddrPort.String() }
	is := "-p " + proto(p.Proto) + " "
	if p.Affinity > 0 {
		for _, e := range eps {
			match := recent(e, fmt.Sprintf("--update --seconds %d --reap", int(p.Affinity/time.Second)))
			if e.Here {
				out = append(out, match+"-j "+prefix+"E-"+name(e))
				continue
			}
			out = append(out, is+match+dnat(e))
		}
	}
	for i, e := range eps {
		set := ""
		if p.Affinity > 0 {
			set = recent(e, "--set")
		}
		target := is + chance(len(eps)-i) + set + dnat(e)
		if e.Here {
			more[prefix+"E-"+name(e)] = []string{"-s " + host(e.Addr()) + " " + r.mark(), is + set + dnat(e)}
			target = chance(len(eps)-i) + "-j " + prefix + "E-" + name(e)
		}
		out = append(out, target)
	}
	return out
}

// chance matches one packet of n. The kernel counts in 1/2^31.
func chance(n int) string {
	if n == 1 {
		return ""
	}
	const one = 1 << 31
	return fmt.Sprintf("-m statistic --mode random --probability %.11f ", math.Round(one/float64(n))/one)
}
