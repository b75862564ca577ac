package iptables

import (
	"maps"
	"net/netip"
	"slices"

	"nodelet/proxy/lb"
)

// content is what one family's chains say, and what it takes to keep them in
// step with a State at the price of what changes.
type content struct {
	r *renderer
	// chains are the wanted ones, by table.
	chains [2]rules
	// members are the frontends of each bucket.
	members map[bucket]map[lb.Frontend]lb.Target
	// elsewhere are the ClusterIPs that somebody else balances.
	elsewhere map[netip.Addr]bool
	// ports counts the frontends that each port has won.
	ports map[*lb.Port]int
}

func newContent(r *renderer) *content {
	return &content{r: r, chains: r.constant(), members: map[bucket]map[lb.Frontend]lb.Target{}, elsewhere: map[netip.Addr]bool{}, ports: map[*lb.Port]int{}}
}

// touched are the chains that may have changed, by table.
type touched [2]map[string]bool

func (t *touched) add(table int, chain string) {
	if t[table] == nil {
		t[table] = map[string]bool{}
	}
	t[table][chain] = true
}

// advance takes in what changed from prev (nil: nothing was known) to next,
// and gives the chains that may be others now.
func (c *content) advance(prev, next *lb.State) (t touched) {
	buckets := map[bucket]bool{}
	counts := map[*lb.Port]int{}
	for ch := range lb.Changes(prev, next) {
		if ch.IPv6() != c.r.ipv6 {
			continue
		}
		if ch.Proto == 0 && (ch.New.Kind == lb.Elsewhere || ch.Old.Kind == lb.Elsewhere) {
			delete(c.elsewhere, ch.Addr)
			if ch.New.Kind == lb.Elsewhere {
				c.elsewhere[ch.Addr] = true
			}
		}
		b := bucketOf(ch.Frontend)
		buckets[b] = true
		if ch.Old.Port != nil {
			delete(c.members[b], ch.Frontend)
			counts[ch.Old.Port]--
		}
		if ch.New.Port != nil {
			if c.members[b] == nil {
				c.members[b] = map[lb.Frontend]lb.Target{}
			}
			c.members[b][ch.Frontend] = ch.New
			counts[ch.New.Port]++
		}
	}
	c.movePorts(counts, &t)
	c.fillBuckets(buckets, &t)
	return t
}

// movePorts makes and removes the chains of ports that came and went.
func (c *content) movePorts(counts map[*lb.Port]int, t *touched) {
	var come []*lb.Port
	for p, n := range counts {
		before := c.ports[p]
		if c.ports[p] = before + n; c.ports[p] <= 0 {
			delete(c.ports, p)
			for name := range c.r.portChains(p) {
				delete(c.chains[nat], name)
				t.add(nat, name)
			}
		} else if before == 0 {
			come = append(come, p)
		}
	}
	// A port that changed goes and comes under the same names.
	for _, p := range come {
		if !p.Usable {
			continue
		}
		for name, rs := range c.r.portChains(p) {
			c.chains[nat][name] = rs
			t.add(nat, name)
		}
	}
}

// fillBuckets writes the chains of these buckets, and the ways to them.
func (c *content) fillBuckets(buckets map[bucket]bool, t *touched) {
	for b := range buckets {
		var inNat, inFilter, last []string
		members := c.members[b]
		for _, f := range slices.SortedFunc(maps.Keys(members), lb.Frontend.Compare) {
			target := members[f]
			if s := c.r.translate(f, target); s != "" {
				inNat = append(inNat, s)
			}
			if target.Kind == lb.AnyPort { // for what no other rule has named
				last = append(last, c.r.refuse(f, target)...)
				continue
			}
			inFilter = append(inFilter, c.r.refuse(f, target)...)
		}
		if len(members) == 0 {
			delete(c.members, b)
		}
		c.put(nat, b.chain(), inNat, t)
		c.put(filter, b.chain(), append(inFilter, last...), t)
	}
	c.ways(nat, t)
	c.ways(filter, t)
}

// put sets a chain; one without rules is none.
func (c *content) put(table int, name string, rs []string, t *touched) {
	t.add(table, name)
	if len(rs) == 0 {
		delete(c.chains[table], name)
		return
	}
	c.chains[table][name] = rs
}

// ways writes the chains that lead to the buckets that are there.
func (c *content) ways(table int, t *touched) {
	parents := rules{}
	var top []string
	for _, b := range slices.SortedFunc(maps.Keys(c.members), compareBuckets) {
		if _, there := c.chains[table][b.chain()]; !there {
			continue
		}
		if _, known := parents[b.parent()]; !known && b.proto == 0 {
			top = append(top, b.wayUp(c.r))
		}
		parents[b.parent()] = append(parents[b.parent()], b.way(c.r))
	}
	if _, any := parents[chainNodePorts]; any {
		for _, node := range c.r.toNode() {
			top = append(top, node+" -j "+chainNodePorts)
		}
	}
	for number := range uint8(16) {
		name := bucket{number: number}.parent()
		c.put(table, name, parents[name], t)
	}
	c.put(table, chainNodePorts, parents[chainNodePorts], t)
	c.top(table, top, t)
}

// top writes the chain that the built-in ones jump to. It is there even when it is empty.
func (c *content) top(table int, ways []string, t *touched) {
	name := chainServices
	if table == filter {
		name = chainFirst
		head := []string{"-m conntrack --ctstate DNAT -j RETURN"}
		if c.r.cfg.LoopbackNodePorts(c.r.ipv6) {
			// route_localnet lets neighbours send here (CVE-2020-8558).
			head = append(head, "! -s "+c.r.loopback()+" -d "+c.r.loopback()+" -j DROP")
		}
		more, nobody := c.r.unassigned(c.elsewhere)
		c.put(filter, chainUnassigned, nobody, t)
		ways = slices.Concat(head, ways, more)
	}
	c.chains[table][name] = ways
	t.add(table, name)
}

// compareBuckets puts those with one parent side by side.
func compareBuckets(a, b bucket) int {
	if a.proto != b.proto {
		return int(a.proto) - int(b.proto)
	}
	if x, y := a.number&15, b.number&15; x != y && a.proto == 0 {
		return int(x) - int(y)
	}
	return int(a.number) - int(b.number)
}
