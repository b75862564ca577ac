package nftables

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"nodelet/internal/nft"
	"nodelet/proxy/lb"
)

// content is what a table holds, or shall hold, beyond its constant part.
type content struct {
	*family
	cfg    *lb.Config
	state  *lb.State // that the content is made for
	rows   map[lb.Frontend]row
	pools  map[pool][]netip.AddrPort
	guards map[lb.Frontend][]netip.Prefix
	loops  map[netip.Addr]bool
	// plans by name; those that only other plans go to are not dispatched.
	plans map[string]planUse
	// members counts the frontends of each plan.
	members map[string]int
	names   map[plan]string
	// dispatch are the names of the rules that lead to plans, in their order, by
	// "for node ports" or not.
	dispatch [2][]string
	// keepers are the chains of session affinity by name; keptTo are the
	// endpoints that clients in a map may be sent to.
	keepers map[string]*keeper
	keptTo  map[string][]lb.Endpoint
}

type planUse struct {
	plan
	dispatched bool
}

func newContent(f *family, cfg *lb.Config) *content {
	return &content{
		family: f, cfg: cfg,
		rows: map[lb.Frontend]row{}, pools: map[pool][]netip.AddrPort{}, guards: map[lb.Frontend][]netip.Prefix{},
		loops: map[netip.Addr]bool{}, plans: map[string]planUse{}, members: map[string]int{}, names: map[plan]string{},
		keepers: map[string]*keeper{}, keptTo: map[string][]lb.Endpoint{},
	}
}

// edits are what has to be done to get from one content to another. What goes
// out of a set comes before what goes in, for a key may be in both.
type edits struct {
	sets        []string
	chains      []nft.Chain
	rules       []placed
	remove, add map[string][]nft.Element
	memory      nft.Bulk
	// clients are the maps of remembered clients that may have lost their endpoints.
	clients []string
}

// placed is a rule that is appended to a chain.
type placed struct {
	chain string
	rule  nft.Rule
}

func newEdits() *edits {
	return &edits{remove: map[string][]nft.Element{}, add: map[string][]nft.Element{}}
}

func (e *edits) in(set string, el nft.Element)  { e.add[set] = append(e.add[set], el) }
func (e *edits) out(set string, el nft.Element) { e.remove[set] = append(e.remove[set], el) }

func index(nodePort bool) int {
	if nodePort {
		return 1
	}
	return 0
}

// wanted is what a frontend shall have.
type wanted struct {
	row
	cluster, local []lb.Endpoint
	sources        []netip.Prefix
	there          bool
}

// want works out what t says, and makes sure that its plan exists.
func (c *content) want(e *edits, t lb.Target) wanted {
	w := wanted{there: t.Port != nil}
	if w.elsewhere = t.Kind == lb.Elsewhere; t.Port == nil || t.Kind.WholeAddress() {
		return w
	}
	p := c.plan(t)
	w.row = row{plan: c.nameOf(p), dispatched: p.dispatched(), handed: p.handed}
	c.need(e, p, w.dispatched)
	if p.sticky {
		by := keptBy(t.Port, p.policy)
		w.kept = &by
		c.needKept(e, by, t.Port)
	}
	// What the frontend's policy never takes is not written.
	if p.cluster > 0 {
		w.cluster = t.Cluster
	}
	if p.local > 0 {
		w.local = t.Local
	}
	if t.Kind == lb.LoadBalancerIP {
		w.sources = t.Sources
	}
	return w
}

// nameOf remembers names: they are asked for once for each frontend.
func (c *content) nameOf(p plan) string {
	name, ok := c.names[p]
	if !ok {
		name = p.name()
		c.names[p] = name
	}
	return name
}

// set brings one frontend to what t says; a nil Port takes it away. Its edits
// are noted in e.
func (c *content) set(e *edits, f lb.Frontend, t lb.Target) {
	w := c.want(e, t)
	c.setRow(e, f, w)
	c.setGuard(e, f, w.sources)
	c.setPool(e, pool{f, false}, w.cluster)
	c.setPool(e, pool{f, true}, w.local)
}

func (c *content) setRow(e *edits, f lb.Frontend, w wanted) {
	old, was := c.rows[f]
	before, after := c.memberships(nil, f, old), c.memberships(nil, f, w.row)
	if f.Proto == 0 {
		before, after = nil, nil
		if was {
			before = wholeAddress(old)
		}
		if w.there {
			after = wholeAddress(w.row)
		}
	}
	for _, m := range before {
		if c.countKept(m, -1); !slices.Contains(after, m) {
			e.out(m.set, c.member(e, f, m))
		}
	}
	for _, m := range after {
		if c.countKept(m, 1); !slices.Contains(before, m) {
			e.in(m.set, c.member(e, f, m))
		}
	}
	c.members[old.plan]--
	c.members[w.plan]++
	if c.rows[f] = w.row; !w.there {
		delete(c.rows, f)
	}
}

// wholeAddress is the set that an address without protocol and port is in.
func wholeAddress(r row) []membership {
	if r.elsewhere {
		return []membership{{set: setElsewhere}}
	}
	return []membership{{set: setClusterIPs}}
}

// memberships adds to in the sets that hold the frontend.
func (c *content) memberships(in []membership, f lb.Frontend, r row) []membership {
	if r.plan != "" {
		in = append(in, membership{set: r.plan})
	}
	if r.dispatched {
		in = append(in, membership{set: named(f.NodePort(), setFrontends)})
	}
	if r.handed {
		in = append(in, membership{set: setHanded})
	}
	return append(in, r.kept.keeping(f.NodePort())...)
}

// member is the frontend as an element of a set.
func (c *content) member(e *edits, f lb.Frontend, of membership) nft.Element {
	if f.Proto == 0 {
		return nft.Element{Key: appendAddr(e.memory.Room(f.Addr.BitLen()/8), f.Addr)}
	}
	el := nft.Element{Key: frontendKey(&e.memory, f)}
	if of.chain != "" {
		el.Do = nft.Action{Kind: nft.DoJump, Chain: of.chain}
	}
	return el
}

// need makes sure that the plan has its set, its chain and the rule that leads
// there. Plans that are no longer used stay until the next look at the whole
// table: there are few.
func (c *content) need(e *edits, p plan, dispatched bool) {
	name := c.nameOf(p)
	use, known := c.plans[name]
	if known && (use.dispatched || !dispatched) {
		return
	}
	c.plans[name] = planUse{p, dispatched}
	if !known && (dispatched || p.action == lb.Balance) {
		chain, more := c.chainOf(c.cfg, p)
		for _, q := range more {
			c.need(e, q, false)
		}
		e.chains = append(e.chains, chain)
	}
	if !dispatched {
		return
	}
	e.sets = append(e.sets, name)
	e.rules = append(e.rules, placed{named(p.nodePort, chainBalance), c.family.dispatch(p)})
	if i := index(p.nodePort); !slices.Contains(c.dispatch[i], name) {
		c.dispatch[i] = append(c.dispatch[i], name)
	}
}

// idle counts the plans that are looked up for each new connection in vain.
func (c *content) idle() (n int) {
	for name, use := range c.plans {
		if use.dispatched && c.members[name] <= 0 {
			n++
		}
	}
	return n
}

func (c *content) setGuard(e *edits, f lb.Frontend, fresh []netip.Prefix) {
	old := c.guards[f]
	for _, p := range old {
		if !slices.Contains(fresh, p) {
			e.out(setSources, sourceElement(f, p))
		}
	}
	for _, p := range fresh {
		if !slices.Contains(old, p) {
			e.in(setSources, sourceElement(f, p))
		}
	}
	if c.guards[f] = fresh; len(fresh) == 0 {
		delete(c.guards, f)
	}
}

// setPool puts the endpoints into slots 0 to n-1. Whoever is there keeps its
// slot, except that the last ones move into the holes of those who left.
func (c *content) setPool(e *edits, p pool, want []lb.Endpoint) {
	old := c.pools[p]
	if len(old) == 0 && len(want) == 0 {
		return
	}
	set := named(p.NodePort(), setEndpoints)
	fresh := place(old, want[:count(want)])
	for i := range max(len(old), len(fresh)) {
		if i < len(old) && i < len(fresh) && old[i] == fresh[i] {
			continue
		}
		if i < len(old) {
			e.out(set, endpointElement(&e.memory, p, i, old[i]))
		}
		if i < len(fresh) {
			e.in(set, endpointElement(&e.memory, p, i, fresh[i]))
		}
	}
	if c.pools[p] = fresh; len(fresh) == 0 {
		delete(c.pools, p)
	}
}

// place gives the slots of the wanted endpoints, near to the old ones.
func place(old []netip.AddrPort, want []lb.Endpoint) []netip.AddrPort {
	if len(old) == 0 {
		fresh := make([]netip.AddrPort, len(want))
		for i, w := range want {
			fresh[i] = w.AddrPort
		}
		return fresh
	}
	wanted := make(map[netip.AddrPort]bool, len(want))
	for _, w := range want {
		wanted[w.AddrPort] = true
	}
	fresh := make([]netip.AddrPort, len(want))
	var homeless []netip.AddrPort // wanted, but behind the last slot, or new
	for i, o := range old {
		if !wanted[o] {
			continue
		}
		delete(wanted, o)
		if i < len(fresh) {
			fresh[i] = o
		} else {
			homeless = append(homeless, o)
		}
	}
	for _, w := range want {
		if wanted[w.AddrPort] {
			homeless = append(homeless, w.AddrPort)
		}
	}
	for i := range fresh {
		if !fresh[i].IsValid() {
			fresh[i], homeless = homeless[0], homeless[1:]
		}
	}
	return fresh
}

func (c *content) setLoop(e *edits, a netip.Addr, is bool) {
	switch {
	case is == c.loops[a]:
	case is:
		c.loops[a] = true
		e.in(setLoops, loopElement(a))
	default:
		delete(c.loops, a)
		e.out(setLoops, loopElement(a))
	}
}

// advance notes in e what changes from prev to next, a State's step for this family.
func (c *content) advance(e *edits, prev, next *lb.State) {
	c.state = next
	for ch := range lb.Changes(prev, next) {
		if ch.IPv6() == c.ipv6 {
			c.set(e, ch.Frontend, ch.New)
		}
	}
	for a, is := range lb.LoopChanges(prev, next) {
		if a.Is6() == c.ipv6 {
			c.setLoop(e, a, is)
		}
	}
}

// write turns edits into messages.
func (c *content) write(tx *nft.Tx, e *edits) {
	for _, name := range e.sets {
		s := c.family.set(name)
		tx.AddSet(c.table, &s)
	}
	for _, chain := range e.chains {
		tx.AddChain(c.table, chain)
	}
	for _, chain := range e.chains {
		for _, r := range chain.Rules {
			tx.AddRule(c.table, chain.Name, r)
		}
	}
	for _, p := range e.rules {
		tx.AddRule(c.table, p.chain, p.rule)
	}
	for _, name := range slices.Sorted(maps.Keys(e.remove)) {
		s := c.family.set(name)
		tx.DeleteElements(c.table, &s, e.remove[name])
	}
	for _, name := range slices.Sorted(maps.Keys(e.add)) {
		s := c.family.set(name)
		tx.AddElements(c.table, &s, e.add[name])
	}
}

// isPlan tells sets of plans from the others by name.
func isPlan(name string) bool {
	bare := strings.TrimPrefix(name, forNodePorts)
	switch bare {
	case setFrontends, setEndpoints, mapAgain, mapAgainLocal, mapNote, setSources, setClusterIPs, setElsewhere, setLoops, setHanded:
		return false
	}
	return !strings.HasPrefix(bare, mapClients)
}
