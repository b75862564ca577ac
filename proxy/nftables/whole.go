package nftables

import (
	"maps"
	"slices"

	"nodelet/internal/nft"
	"nodelet/proxy/lb"
)

// become makes the content all that want says, and gives the frontends that
// were there and are not any more. Only the slots of endpoints and the order
// of rules are kept: the rest is taken from want.
func (c *content) become(want *lb.State) (gone []lb.Frontend) {
	for f := range c.rows {
		if _, ok := want.Lookup(f); !ok && f.Proto != 0 {
			gone = append(gone, f)
		}
	}
	before := *c
	*c = *newContent(c.family, c.cfg)
	c.dispatch = before.dispatch
	c.state = want
	e := newEdits() // only for its shape: the whole is compared
	for f, t := range want.All() {
		if f.IPv6() != c.ipv6 {
			continue
		}
		w := c.want(e, t)
		c.rows[f] = w.row
		c.members[w.plan]++
		if w.kept != nil {
			for _, m := range w.kept.keeping(f.NodePort()) {
				c.countKept(m, 1)
			}
		}
		if len(w.sources) > 0 {
			c.guards[f] = w.sources
		}
		for local, eps := range [][]lb.Endpoint{w.cluster, w.local} {
			if p := (pool{f, local == 1}); len(eps) > 0 {
				c.pools[p] = place(before.pools[p], eps[:count(eps)])
			}
		}
	}
	for a := range want.Loops() {
		if a.Is6() == c.ipv6 {
			c.loops[a] = true
		}
	}
	for i := range c.dispatch {
		c.dispatch[i] = slices.DeleteFunc(c.dispatch[i], func(name string) bool { return !c.plans[name].dispatched })
	}
	return gone
}

// ruleset is the whole table.
func (c *content) ruleset() *nft.Ruleset {
	r := &nft.Ruleset{Table: c.table, Chains: c.chains(c.cfg)}
	for _, nodePort := range []bool{false, true} {
		chain := nft.Chain{Name: named(nodePort, chainBalance)}
		for _, name := range c.dispatch[index(nodePort)] {
			chain.Rules = append(chain.Rules, c.family.dispatch(c.plans[name].plan))
		}
		r.Chains = append(r.Chains, chain)
	}
	names := c.constantSets()
	for _, name := range slices.Sorted(maps.Keys(c.plans)) {
		use := c.plans[name]
		if use.dispatched || use.action == lb.Balance {
			chain, _ := c.chainOf(c.cfg, use.plan)
			r.Chains = append(r.Chains, chain)
		}
		if use.dispatched && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.keepers)) {
		k := c.keepers[name]
		r.Chains = append(r.Chains, k.chain)
		if k.clients != "" {
			names = append(names, k.clients)
		}
	}
	elements := c.elements()
	for _, name := range names {
		s := c.family.set(name)
		s.Elements = elements[name]
		r.Sets = append(r.Sets, s)
	}
	return r
}

// elements are those of all sets by name.
func (c *content) elements() map[string][]nft.Element {
	e := newEdits()
	for name, n := range c.counts() {
		e.add[name] = make([]nft.Element, 0, n)
	}
	var sets []membership
	for f, row := range c.rows {
		sets = c.setsOf(sets[:0], f, row)
		for _, m := range sets {
			e.in(m.set, c.member(e, f, m))
		}
	}
	for p, eps := range c.pools {
		for i, ep := range eps {
			e.in(named(p.NodePort(), setEndpoints), endpointElement(&e.memory, p, i, ep))
		}
	}
	for f, ranges := range c.guards {
		for _, p := range ranges {
			e.in(setSources, sourceElement(f, p))
		}
	}
	for a := range c.loops {
		e.in(setLoops, loopElement(a))
	}
	return e.add
}

// counts is how many elements the sets have that may be large, so that memory is taken once for all.
func (c *content) counts() map[string]int {
	n := map[string]int{}
	var sets []membership
	for f, row := range c.rows {
		sets = c.setsOf(sets[:0], f, row)
		for _, m := range sets {
			n[m.set]++
		}
	}
	for p, eps := range c.pools {
		n[named(p.NodePort(), setEndpoints)] += len(eps)
	}
	return n
}

// setsOf adds to in the sets that a frontend is in, or the rest of a ClusterIP.
func (c *content) setsOf(in []membership, f lb.Frontend, r row) []membership {
	if f.Proto == 0 {
		return append(in, wholeAddress(r)...)
	}
	return c.memberships(in, f, r)
}
