package sim

import (
	"fmt"
	"net/netip"
	"slices"
)

// Packet is the first packet of a connection.
type Packet struct {
	Src, Dst netip.AddrPort
	Proto    uint8
	// In is the interface it comes in by; empty for a packet of this node.
	In string
}

// World is what the rules ask of the node besides the packet.
type World struct {
	// Local tells whether an address is this node's.
	Local func(netip.Addr) bool
	// Out names the interface by which a destination is reached; nil is not known.
	Out func(netip.Addr) string
	// Virtual gives the real servers that IPVS chooses from for an address; yes
	// is false where there is no virtual server. Nil is a kernel without IPVS.
	Virtual func(dst netip.AddrPort, proto uint8) (real []netip.AddrPort, yes bool)
	// Recent tells whether a list of xt_recent remembers a source; nil is not known.
	Recent func(list string, src netip.Addr) bool
}

// End is what became of a packet.
type End uint8

// The ends.
const (
	// Passed: it left by an interface, or reached a socket of this node.
	Passed End = iota
	Dropped
	Rejected
)

// String is the end in lower case.
func (e End) String() string { return [...]string{"passed", "dropped", "rejected"}[e] }

// Outcome is one way a packet can go.
type Outcome struct {
	End End
	// Dst is where it went, after any translation.
	Dst        netip.AddrPort
	Translated bool
	// Masqueraded: its source became the node's.
	Masqueraded bool
	// Untracked: conntrack, and with it translation, never saw it.
	Untracked bool
	// Weight is the probability of this way among those followed.
	Weight float64
	// By names the rule that ended it, when one did.
	By string
	// Unknown lists what was on the way and is not known to this package.
	Unknown []string
}

// String is one line.
func (o Outcome) String() string {
	s := o.End.String() + " " + o.Dst.String()
	if o.Masqueraded {
		s += "*"
	}
	if o.By != "" {
		s += " by " + o.By
	}
	if len(o.Unknown) > 0 {
		s += fmt.Sprintf(" unless %v", o.Unknown)
	}
	return s
}

// maxRuns bounds how many ways are followed: rules full of unknown matches
// double them with each.
const maxRuns = 4096

// Run follows a packet in all its ways. complete is false when there were more
// than Run was willing to follow.
func Run(rs *Ruleset, w World, p Packet) (out []Outcome, complete bool) {
	var choices []choice
	for range maxRuns {
		m := &machine{rules: rs, world: w, p: p, dst: p.Dst, choices: choices, weight: 1}
		out = append(out, m.run())
		choices = next(m.choices)
		if choices == nil {
			return merge(out), true
		}
	}
	return merge(out), false
}

// choice is a fork in the way.
type choice struct{ taken, of int }

// next gives the choices of the way that has not been followed yet.
func next(c []choice) []choice {
	c = slices.Clone(c)
	for len(c) > 0 {
		last := &c[len(c)-1]
		if last.taken+1 < last.of {
			last.taken++
			return c
		}
		c = c[:len(c)-1]
	}
	return nil
}

// merge adds up ways that end alike.
func merge(all []Outcome) (out []Outcome) {
	for _, o := range all {
		at := slices.IndexFunc(out, func(x Outcome) bool {
			return x.End == o.End && x.Dst == o.Dst && x.Masqueraded == o.Masqueraded && x.By == o.By && slices.Equal(x.Unknown, o.Unknown)
		})
		if at < 0 {
			out = append(out, o)
			continue
		}
		out[at].Weight += o.Weight
	}
	return out
}

// machine is one packet on one way.
type machine struct {
	rules *Ruleset
	world World
	p     Packet
	dst   netip.AddrPort
	reg   [64]byte
	mark  uint32
	hook  int

	translated, sourced, untracked bool
	// taken: IPVS has the packet, and sends it on by itself.
	taken       bool
	masqueraded bool

	choices []choice
	at      int
	weight  float64
	unknown []string
	by      string
}

// choose takes one of n ways.
func (m *machine) choose(n int) int {
	if m.at == len(m.choices) {
		m.choices = append(m.choices, choice{0, n})
	}
	c := m.choices[m.at]
	m.at++
	m.weight /= float64(n)
	return c.taken
}

// guess takes both ways of a match that is not known.
func (m *machine) guess(what string) bool {
	yes := m.choose(2) == 0
	if !slices.Contains(m.unknown, what) {
		m.unknown = append(m.unknown, what)
	}
	return yes
}

func (m *machine) run() Outcome {
	o := Outcome{End: m.path(), Dst: m.dst, Translated: m.translated || m.taken, Masqueraded: m.masqueraded, Untracked: m.untracked,
		Weight: m.weight, By: m.by, Unknown: m.unknown}
	return o
}

// walk runs hooks one after the other, until one ends it or IPVS takes it.
func (m *machine) walk(hooks ...int) End {
	before := m.taken
	for _, h := range hooks {
		if e := m.at1(h); e != Passed {
			return e
		}
		if m.taken && !before { // sent on as if it were the node's own
			return m.walk(Output, Postrouting)
		}
	}
	return Passed
}

// path walks the hooks.
func (m *machine) path() End {
	hooks := []int{Prerouting}
	if m.p.In == "" {
		hooks = []int{Output, Postrouting}
	}
	if e := m.walk(hooks...); e != Passed || m.taken {
		return e
	}
	local := m.world.Local(m.dst.Addr())
	switch {
	case m.p.In == "" && !local:
		return Passed
	case m.p.In == "": // over loopback: NAT has been settled on the way out
		hooks = []int{Prerouting, Input}
	case local:
		hooks = []int{Input}
	default:
		hooks = []int{Forward, Postrouting}
	}
	return m.walk(hooks...)
}

// Where IPVS looks at packets: behind the translation of the node's own, and
// behind the filters of those that came in.
var ipvsAt = map[int]int{Output: -99, Input: 98}

// virtual lets IPVS look; it refuses what no real server is there for.
func (m *machine) virtual() End {
	if m.world.Virtual == nil || m.taken || m.untracked {
		return Passed
	}
	real, yes := m.world.Virtual(m.dst, m.p.Proto)
	switch {
	case !yes:
		return Passed
	case len(real) == 0:
		m.by = fmt.Sprintf("IPVS, whose virtual server %s has no real ones", m.dst)
		return Rejected
	}
	m.dst, m.taken = real[m.choose(len(real))], true
	return Passed
}

// seat is a base chain at a hook.
type seat struct {
	table *Table
	chain *Chain
}

// at1 runs the base chains of one hook in order of priority.
func (m *machine) at1(hook int) End {
	m.hook = hook
	var seats []seat
	for i := range m.rules.Tables {
		t := &m.rules.Tables[i]
		if t.Dormant || t.Family != Inet && (t.Family == IPv4) != m.p.Dst.Addr().Is4() || t.Family != Inet && t.Family != IPv4 && t.Family != IPv6 {
			continue
		}
		for j := range t.Chains {
			if b := t.Chains[j].Base; b != nil && b.Hook == hook {
				seats = append(seats, seat{t, &t.Chains[j]})
			}
		}
	}
	slices.SortStableFunc(seats, func(a, b seat) int { return a.chain.Base.Priority - b.chain.Base.Priority })
	ipvs, looks := ipvsAt[hook]
	looks = looks && !m.taken
	for _, s := range seats {
		if looks && s.chain.Base.Priority > ipvs {
			looks = false
			if e := m.virtual(); e != Passed || m.taken {
				return e
			}
		}
		if s.chain.Base.NAT && (m.untracked || m.settled(hook)) {
			continue
		}
		if e := m.base(s); e != Passed {
			return e
		}
	}
	if looks {
		return m.virtual()
	}
	return Passed
}

// settled: the first translation of a kind is the last. A packet over loopback
// meets the hooks of the way in with its translation made.
func (m *machine) settled(hook int) bool {
	switch {
	case m.taken && hook == Output: // it had its chance before IPVS
		return true
	case m.p.In == "" && (hook == Prerouting || hook == Input):
		return true
	case hook == Prerouting || hook == Output:
		return m.translated
	}
	return m.sourced
}

func (m *machine) base(s seat) End {
	v, rule := m.chain(s.table, s.chain, 0)
	switch v {
	case verdictDrop:
		m.by = m.where(s, rule)
		return Dropped
	case verdictReject:
		m.by = m.where(s, rule)
		return Rejected
	case verdictNone:
		if s.chain.Base.Drop {
			m.by = fmt.Sprintf("policy drop of chain %s of table %s", s.chain.Name, s.table)
			return Dropped
		}
	}
	return Passed
}

func (m *machine) where(s seat, r place) string {
	if r.rule.Text != "" {
		return fmt.Sprintf("rule %q of table %s", r.rule.Text, s.table)
	}
	text := fmt.Sprintf("rule with handle %d", r.rule.Handle)
	if r.rule.Comment != "" {
		text += fmt.Sprintf(" %q", r.rule.Comment)
	}
	return fmt.Sprintf("%s in chain %s of table %s", text, r.chain.Name, s.table)
}

// String is "family name", for legacy tables with whose they are.
func (t *Table) String() string {
	if t.Origin != "" {
		return map[uint8]string{IPv4: "ip ", IPv6: "ip6 "}[t.Family] + t.Name + " of " + t.Origin
	}
	return map[uint8]string{Inet: "inet", IPv4: "ip", IPv6: "ip6"}[t.Family] + " " + t.Name
}
