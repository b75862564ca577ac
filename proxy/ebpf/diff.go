package ebpf

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"nodelet/proxy/lb"
)

// content is what the maps hold, in terms of a State.
type content struct {
	cfg   *lb.Config
	pools map[portName]*pool
	// next is the smallest number that no port has had, free those that are free again.
	next uint32
	free []uint32
	// size is how many elements there are once all is written.
	size sizes
}

func newContent(cfg *lb.Config) *content {
	return &content{cfg: cfg, pools: map[portName]*pool{}, next: podRanges + 1, size: sizes{ranges: len(rangesOf(cfg))}}
}

// puts are elements to write into one map.
type puts[K comparable, V any] struct {
	keys   []K
	values []V
}

func (p *puts[K, V]) add(k K, v V) {
	p.keys = append(p.keys, k)
	p.values = append(p.values, v)
}

func (p *puts[K, V]) grow(n int) {
	p.keys, p.values = slices.Grow(p.keys, n), slices.Grow(p.values, n)
}

// edits are changes of elements. They are written in the order of the fields:
// what is referred to comes first, and goes last.
type edits struct {
	ranges    puts[proxyRangeKey, uint32]
	members   puts[proxyMemberKey, uint32]
	slots     puts[proxySlotKey, proxyEndpoint]
	ports     puts[uint32, proxyPort]
	frontends puts[proxyFrontendKey, proxyFrontend]

	// emptied are ports with a list that is empty now: frontends stop to use it first.
	emptied     puts[uint32, proxyPort]
	noFrontends []proxyFrontendKey
	noPorts     []uint32
	noSlots     []proxySlotKey
	noMembers   []proxyMemberKey
	noRanges    []proxyRangeKey
	// freed are the numbers that no port has any more once this is written.
	freed []uint32
}

func (e *edits) len() int {
	return len(e.ranges.keys) + len(e.members.keys) + len(e.slots.keys) + len(e.ports.keys) + len(e.frontends.keys) +
		len(e.emptied.keys) + len(e.noFrontends) + len(e.noPorts) + len(e.noSlots) + len(e.noMembers) + len(e.noRanges)
}

// table is one of the maps, to be written.
type table[K comparable, V any] interface {
	put(*puts[K, V]) error
	remove([]K) error
}

// tables are the maps that the daemon writes.
type tables struct {
	ranges    table[proxyRangeKey, uint32]
	members   table[proxyMemberKey, uint32]
	slots     table[proxySlotKey, proxyEndpoint]
	ports     table[uint32, proxyPort]
	frontends table[proxyFrontendKey, proxyFrontend]
}

// write writes the elements, in the order that leaves nobody without an
// endpoint, wherever it ends.
func (e *edits) write(t *tables) error {
	return steps(
		func() error { return t.ranges.put(&e.ranges) },
		func() error { return t.members.put(&e.members) },
		func() error { return t.slots.put(&e.slots) },
		func() error { return t.ports.put(&e.ports) },
		func() error { return t.frontends.put(&e.frontends) },
		func() error { return t.ports.put(&e.emptied) },
		func() error { return t.frontends.remove(e.noFrontends) },
		func() error { return t.ports.remove(e.noPorts) },
		func() error { return t.slots.remove(e.noSlots) },
		func() error { return t.members.remove(e.noMembers) },
		func() error { return t.ranges.remove(e.noRanges) },
	)
}

// writeFirst writes the elements into maps that no program in place looks at
// yet: in no order, by as many processors as there are.
func (e *edits) writeFirst(t *tables) error {
	var all errgroup.Group
	for _, put := range []func() error{
		func() error { return t.slots.put(&e.slots) },
		func() error { return t.frontends.put(&e.frontends) },
		func() error { return t.ports.put(&e.ports) },
		func() error { return t.members.put(&e.members) },
		func() error { return t.ranges.put(&e.ranges) },
	} {
		all.Go(put)
	}
	return all.Wait()
}

// stops tells whether an endpoint may have stopped to serve that sockets are connected to.
func (e *edits) stops() bool {
	return len(e.noMembers) > 0 || slices.ContainsFunc(e.members.values, func(in uint32) bool {
		return in&uint32(proxyMemberFlagsMEMBER_SERVING) == 0
	})
}

// advance gives what has to be written from prev to next, and makes the content that.
func (c *content) advance(prev, next *lb.State) *edits {
	e := &edits{}
	changes := slices.Collect(lb.Changes(prev, next))
	slices.SortFunc(changes, func(a, b lb.Change) int { return a.Compare(b.Frontend) })
	for _, ch := range changes {
		if ch.New.Port != nil && ch.New.Kind == lb.ClusterIP {
			c.setPool(e, ch.New.Port)
		}
	}
	for _, ch := range changes {
		c.setFrontend(e, &ch)
	}
	for _, ch := range changes {
		if ch.New.Port == nil && ch.Old.Kind == lb.ClusterIP {
			c.dropPool(e, ch.Frontend)
		}
	}
	return e
}

// begin gives what has to be written into empty maps, and makes the content that.
func (c *content) begin(want *lb.State) *edits {
	e := &edits{}
	most := c.most(want)
	c.pools = make(map[portName]*pool, most.ports)
	e.slots.grow(most.slots)
	e.ports.grow(most.ports)
	e.frontends.grow(most.frontends)
	for _, t := range want.All() {
		if t.Kind == lb.ClusterIP {
			c.setPool(e, t.Port)
		}
	}
	for f, t := range want.All() {
		e.frontends.add(encodeFrontend(f), renderFrontend(c.cfg, f, t, c.number(t)))
	}
	for _, k := range rangesOf(c.cfg) {
		e.ranges.add(k, 1)
	}
	c.size.frontends = want.Len()
	return e
}

// number gives the map key of the port that answers a target; 0 for what is named by an address alone.
func (c *content) number(t lb.Target) uint32 {
	if t.Kind.WholeAddress() {
		return 0
	}
	if p := c.pools[nameOf(t.Port)]; p != nil {
		return p.id
	}
	return 0
}

func (c *content) setFrontend(e *edits, ch *lb.Change) {
	key := encodeFrontend(ch.Frontend)
	if ch.New.Port == nil {
		c.size.frontends--
		e.noFrontends = append(e.noFrontends, key)
		return
	}
	if ch.Old.Port == nil {
		c.size.frontends++
	}
	fresh := renderFrontend(c.cfg, ch.Frontend, ch.New, c.number(ch.New))
	if ch.Old.Port != nil && c.number(ch.Old) == fresh.Port && renderFrontend(c.cfg, ch.Frontend, ch.Old, fresh.Port) == fresh {
		return
	}
	e.frontends.add(key, fresh)
}

// pool gives the pool of a port, which may be new and empty.
func (c *content) pool(name portName) *pool {
	if p := c.pools[name]; p != nil {
		return p
	}
	p := &pool{}
	if n := len(c.free); n > 0 {
		p.id, c.free = c.free[n-1], c.free[:n-1]
	} else {
		p.id = c.next
		c.next++
	}
	return p
}

func (c *content) setPool(e *edits, p *lb.Port) {
	name := nameOf(p)
	_, known := c.pools[name]
	old := c.pool(name)
	fresh := renderPool(c.cfg, old, p)
	c.pools[name] = fresh
	c.size = c.size.plus(fresh.sizes())
	if known {
		c.size = c.size.minus(old.sizes())
	}
	if !known {
		e.ports.add(fresh.id, fresh.value)
	} else {
		e.setPort(fresh.id, old.value, fresh.value)
	}
	for i := range fresh.lists {
		diffSlots(e, fresh.id, listBase(i), [2][]lb.Endpoint{old.lists[i], fresh.lists[i]})
	}
	diffMembers(e, old, fresh)
	for _, s := range fresh.sources {
		if !slices.Contains(old.sources, s) {
			e.ranges.add(encodeRange(fresh.id, s), 1)
		}
	}
	for _, s := range old.sources {
		if !slices.Contains(fresh.sources, s) {
			e.noRanges = append(e.noRanges, encodeRange(fresh.id, s))
		}
	}
}

// setPort writes a port again. A list that becomes empty is left for last, with
// the slots that it has had.
func (e *edits) setPort(id uint32, old, fresh proxyPort) {
	interim := fresh
	if fresh.Slots == 0 {
		interim.Slots = old.Slots
	}
	if fresh.Local == 0 {
		interim.Local = old.Local
	}
	if interim != old {
		e.ports.add(id, interim)
	}
	if interim != fresh {
		e.emptied.add(id, fresh)
	}
}

func diffSlots(e *edits, id, base uint32, lists [2][]lb.Endpoint) {
	old, fresh := lists[0], lists[1]
	for i := range fresh {
		if i >= len(old) || old[i] != fresh[i] {
			e.slots.add(proxySlotKey{Port: id, Slot: base + uint32(i)}, encodeEndpoint(fresh[i]))
		}
	}
	for i := len(fresh); i < len(old); i++ {
		e.noSlots = append(e.noSlots, proxySlotKey{Port: id, Slot: base + uint32(i)})
	}
}

func memberKey(id uint32, a netip.AddrPort) proxyMemberKey {
	return proxyMemberKey{Port: id, Addr: encodeAddr(a.Addr()), Number: swapped(a.Port())}
}

func diffMembers(e *edits, old, fresh *pool) {
	for _, a := range slices.SortedFunc(maps.Keys(fresh.members), netip.AddrPort.Compare) {
		if old.members[a] != fresh.members[a] {
			e.members.add(memberKey(fresh.id, a), fresh.members[a])
		}
	}
	for _, a := range slices.SortedFunc(maps.Keys(old.members), netip.AddrPort.Compare) {
		if _, stays := fresh.members[a]; !stays {
			e.noMembers = append(e.noMembers, memberKey(fresh.id, a))
		}
	}
}

func (c *content) dropPool(e *edits, name portName) {
	old := c.pools[name]
	if old == nil {
		return
	}
	delete(c.pools, name)
	c.size = c.size.minus(old.sizes())
	e.noPorts = append(e.noPorts, old.id)
	gone := &pool{id: old.id}
	for i := range old.lists {
		diffSlots(e, old.id, listBase(i), [2][]lb.Endpoint{old.lists[i], nil})
	}
	diffMembers(e, old, gone)
	for _, s := range old.sources {
		e.noRanges = append(e.noRanges, encodeRange(old.id, s))
	}
	e.freed = append(e.freed, old.id)
}

// written gives numbers free again whose elements are gone.
func (c *content) written(e *edits) { c.free = append(c.free, e.freed...) }

// String lists the edits in the order in which they are written.
func (e *edits) String() string {
	var b strings.Builder
	for _, k := range e.ranges.keys {
		fmt.Fprintf(&b, "+ range %s\n", k)
	}
	for i, k := range e.members.keys {
		fmt.Fprintf(&b, "+ member %s = %d\n", k, e.members.values[i])
	}
	for i, k := range e.slots.keys {
		fmt.Fprintf(&b, "+ slot %s = %s\n", k, e.slots.values[i])
	}
	for i, k := range e.ports.keys {
		fmt.Fprintf(&b, "+ port %d = %s\n", k, e.ports.values[i])
	}
	for i, k := range e.frontends.keys {
		fmt.Fprintf(&b, "+ frontend %s = %s\n", decodeFrontend(k), e.frontends.values[i])
	}
	for i, k := range e.emptied.keys {
		fmt.Fprintf(&b, "+ port %d = %s\n", k, e.emptied.values[i])
	}
	for _, k := range e.noFrontends {
		fmt.Fprintf(&b, "- frontend %s\n", decodeFrontend(k))
	}
	for _, k := range e.noPorts {
		fmt.Fprintf(&b, "- port %d\n", k)
	}
	for _, k := range e.noSlots {
		fmt.Fprintf(&b, "- slot %s\n", k)
	}
	for _, k := range e.noMembers {
		fmt.Fprintf(&b, "- member %s\n", k)
	}
	for _, k := range e.noRanges {
		fmt.Fprintf(&b, "- range %s\n", k)
	}
	return b.String()
}
