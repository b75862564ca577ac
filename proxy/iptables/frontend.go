package iptables

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"nodelet/internal/model"
	"nodelet/proxy/lb"
)

// entry is the chain that packets from admitted sources go to, for frontends
// besides the ClusterIP.
func (r *renderer) entry(p *lb.Port, id string) string {
	if p.ExternalLocal {
		return prefix + "X-" + id
	}
	return prefix + "C-" + id
}

// match is a packet for a frontend.
func match(f lb.Frontend) string {
	if f.NodePort() {
		return fmt.Sprintf("-p %[1]s -m %[1]s --dport %[2]d", proto(f.Proto), f.Port)
	}
	return fmt.Sprintf("-d %[1]s -p %[2]s -m %[2]s --dport %[3]d", host(f.Addr), proto(f.Proto), f.Port)
}

// translate is the rule of a frontend in table nat; empty when there is none.
// What is refused or dropped stays untranslated, and asks nobody else.
func (r *renderer) translate(f lb.Frontend, t lb.Target) string {
	if t.Kind.WholeAddress() {
		return ""
	}
	id, to := portID(t.Port), ""
	switch {
	case !t.Usable:
	case t.Kind == lb.ClusterIP:
		if route := t.Route(r.cfg, lb.FromOutside); route.Action == lb.Balance {
			to = prefix + "C-" + id
			if route.Local {
				to = prefix + "L-" + id
			}
		}
	case t.Kind == lb.LoadBalancerIP && len(t.Sources) > 0:
		to = prefix + "F-" + id
	default:
		to = r.entry(t.Port, id)
	}
	if to == "" {
		return match(f) + " -j ACCEPT"
	}
	return match(f) + " -g " + to
}

// refuse gives the rules of a frontend in table filter, for packets that were not translated.
func (r *renderer) refuse(f lb.Frontend, t lb.Target) (out []string) {
	guarded := t.Kind == lb.LoadBalancerIP && len(t.Sources) > 0
	switch {
	case t.Kind == lb.Elsewhere:
		return nil // left to others: see unassigned
	case t.Kind == lb.AnyPort:
		return []string{"-d " + host(f.Addr) + " -j " + chainReject}
	case !t.Usable && guarded:
		// A rule has one source: more are more rules.
		for _, s := range t.Sources {
			out = append(out, fmt.Sprintf("-s %s %s -g %s", s, match(f), chainReject))
		}
		return append(out, match(f)+" -j DROP")
	case !t.Usable && t.Kind == lb.ClusterIP:
		return nil // the rule of AnyPort says so
	case !t.Usable:
		return []string{match(f) + " -j " + chainReject}
	case guarded, t.Route(r.cfg, lb.FromOutside).Action == lb.Drop:
		return []string{match(f) + " -j DROP"}
	}
	return nil
}

// unassigned lists the rules about what is sent to a ClusterIP that no Service
// has, but for those that somebody else balances.
func (r *renderer) unassigned(elsewhere map[netip.Addr]bool) (ways, chain []string) {
	for _, p := range r.cfg.ServiceRanges(r.ipv6) {
		ways = append(ways, "-d "+p.String()+" -m addrtype ! --dst-type LOCAL -g "+chainUnassigned)
	}
	if len(ways) == 0 {
		return nil, nil
	}
	for _, a := range slices.SortedFunc(maps.Keys(elsewhere), netip.Addr.Compare) {
		chain = append(chain, "-d "+host(a)+" -j RETURN")
	}
	return ways, append(chain, "-j DROP")
}

// bucket is one of the chains that frontends are spread over.
type bucket struct {
	// proto is 0 for addresses; number is the last byte of the address, or the range of node ports.
	proto  model.Protocol
	number uint8
}

// rangeBits is how many node ports share a chain: 2 to that power.
const rangeBits = 8

func bucketOf(f lb.Frontend) bucket {
	if f.NodePort() {
		return bucket{f.Proto, uint8(f.Port >> rangeBits)}
	}
	b := f.Addr.AsSlice()
	return bucket{number: b[len(b)-1]}
}

func (b bucket) chain() string {
	if b.proto != 0 {
		return fmt.Sprintf("%s-%s-%02x", chainNodePorts, proto(b.proto), b.number)
	}
	return fmt.Sprintf("%sV-%02x", prefix, b.number)
}

// parent is the chain that leads to the bucket's.
func (b bucket) parent() string {
	if b.proto != 0 {
		return chainNodePorts
	}
	return fmt.Sprintf("%sV-%x", prefix, b.number&15)
}

// way is the rule that leads to the bucket's chain.
func (b bucket) way(r *renderer) string {
	if b.proto != 0 {
		first := int(b.number) << rangeBits
		return fmt.Sprintf("-p %[1]s -m %[1]s --dport %[2]d:%[3]d -g %[4]s", proto(b.proto), first, first+1<<rangeBits-1, b.chain())
	}
	return fmt.Sprintf("-d %s -g %s", r.lastByte(b.number&0xf0, 0xf0), b.chain())
}

// wayUp is the rule that leads to the parent of an address's bucket.
func (b bucket) wayUp(r *renderer) string {
	return fmt.Sprintf("-d %s -j %s", r.lastByte(b.number&15, 15), b.parent())
}

// lastByte matches some bits of the last byte of an address.
func (r *renderer) lastByte(value, mask uint8) string {
	if r.ipv6 {
		return at16(value) + "/" + at16(mask)
	}
	return "0.0.0." + strconv.Itoa(int(value)) + "/0.0.0." + strconv.Itoa(int(mask))
}

func at16(b uint8) string { return netip.AddrFrom16([16]byte{15: b}).String() }
