package ebpf

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"

	"nodelet/proxy/lb"
)

// elements are the raw contents of the maps that the daemon writes.
type elements struct {
	ranges    map[proxyRangeKey]uint32
	members   map[proxyMemberKey]uint32
	slots     map[proxySlotKey]proxyEndpoint
	ports     map[uint32]proxyPort
	frontends map[proxyFrontendKey]proxyFrontend
}

// chunk is how many elements one system call reads or writes: enough that the
// calls do not count, few enough to stay in the cache.
const chunk = 4096

// readMap reads a whole map; in one pass where the kernel can.
func readMap[K comparable, V any](m *ebpf.Map) (map[K]V, error) {
	out := map[K]V{}
	_, err := scan(m, func(k *K, v *V) bool {
		out[*k] = *v
		return true
	})
	if err != nil {
		return readSlowly[K, V](m)
	}
	return out, nil
}

// scan visits the elements of a map that can be read in batches. It gives how
// many there are, or -1 when visit was false, which ends it.
func scan[K, V any](m *ebpf.Map, visit func(*K, *V) bool) (n int, err error) {
	size := min(chunk, int(m.MaxEntries()))
	keys, values := make([]K, size), make([]V, size)
	var cursor ebpf.MapBatchCursor
	for {
		got, err := m.BatchLookup(&cursor, keys, values, nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return n, fmt.Errorf("read map %s: %w", m, err)
		}
		for i := range got {
			if !visit(&keys[i], &values[i]) {
				return -1, nil
			}
			n++
		}
		if err != nil {
			return n, nil
		}
	}
}

// readSlowly is for maps without batches, and those with more than a chunk in one bucket.
func readSlowly[K comparable, V any](m *ebpf.Map) (map[K]V, error) {
	out := map[K]V{}
	var key K
	var value V
	all := m.Iterate()
	for all.Next(&key, &value) {
		out[key] = value
	}
	if err := all.Err(); err != nil {
		return nil, fmt.Errorf("read map %s: %w", m, err)
	}
	return out, nil
}

// readAll reads what the daemon writes.
func (k *kernel) readAll() (e elements, err error) {
	read := func(f func() error) {
		if err == nil {
			err = f()
		}
	}
	read(func() (err error) { e.ranges, err = readMap[proxyRangeKey, uint32](k.maps.Ranges); return err })
	read(func() (err error) { e.members, err = readMap[proxyMemberKey, uint32](k.maps.Members); return err })
	read(func() (err error) { e.slots, err = readMap[proxySlotKey, proxyEndpoint](k.maps.Slots); return err })
	read(func() (err error) { e.ports, err = readMap[uint32, proxyPort](k.maps.Ports); return err })
	read(func() (err error) {
		e.frontends, err = readMap[proxyFrontendKey, proxyFrontend](k.maps.Frontends)
		return err
	})
	return e, err
}

// contentOf reads out of the elements what only the kernel knows: the numbers
// of the ports and the slots of the endpoints.
func contentOf(cfg *lb.Config, found *elements) *content {
	c := newContent(cfg)
	byID := map[uint32]*pool{}
	for k, v := range found.frontends {
		f := decodeFrontend(k)
		if f.Proto != 0 && v.Port != podRanges && v.Flags&uint8(proxyFrontendFlagsFRONTEND_CLUSTER_IP) != 0 && byID[v.Port] == nil {
			p := &pool{id: v.Port}
			c.pools[f], byID[v.Port] = p, p
		}
	}
	seats := [2]map[uint32]map[int]lb.Endpoint{{}, {}}
	for k, v := range found.slots {
		list, slot := 0, int(k.Slot)
		if k.Slot >= localSlots {
			list, slot = 1, int(k.Slot-localSlots)
		}
		if byID[k.Port] == nil || slot >= len(found.slots) {
			continue // by somebody's hand
		}
		if seats[list][k.Port] == nil {
			seats[list][k.Port] = map[int]lb.Endpoint{}
		}
		seats[list][k.Port][slot] = decodeEndpoint(v)
	}
	for list := range seats {
		for id, m := range seats[list] {
			byID[id].lists[list] = inOrder(m)
		}
	}
	// A daemon that was killed may have left frontends whose port has lost its
	// name: its number is not given again before they are gone.
	used := map[uint32]bool{}
	for _, v := range found.frontends {
		used[v.Port] = true
	}
	for _, id := range slices.Sorted(maps.Keys(used)) {
		for ; c.next < id; c.next++ {
			c.free = append(c.free, c.next)
		}
		c.next = max(c.next, id+1)
	}
	return c
}

// inOrder lists the slots; one that is missing, by somebody's hand, is left invalid.
func inOrder(m map[int]lb.Endpoint) []lb.Endpoint {
	last := 0
	for i := range m {
		last = max(last, i)
	}
	out := make([]lb.Endpoint, last+1)
	for i, e := range m {
		out[i] = e
	}
	return out
}

// become makes the content what want says, but for the Ports that are refused,
// and gives the elements of that.
func (c *content) become(want *lb.State, refused refusals) elements {
	e := &edits{}
	wanted := elements{
		ranges: map[proxyRangeKey]uint32{}, members: map[proxyMemberKey]uint32{}, slots: map[proxySlotKey]proxyEndpoint{},
		ports: map[uint32]proxyPort{}, frontends: map[proxyFrontendKey]proxyFrontend{},
	}
	names := map[portName]bool{}
	for f, t := range want.All() {
		if _, no := refused[f]; no || t.Kind != lb.ClusterIP {
			continue
		}
		names[f] = true
		c.setPool(e, t.Port)
		c.pools[f].list(&wanted)
	}
	for f, t := range want.All() {
		if _, no := refused[nameOf(t.Port)]; no && !t.Kind.WholeAddress() {
			continue
		}
		wanted.frontends[encodeFrontend(f)] = renderFrontend(c.cfg, f, t, c.number(t))
	}
	for _, k := range rangesOf(c.cfg) {
		wanted.ranges[k] = 1
	}
	for name := range c.pools {
		if !names[name] {
			c.dropPool(e, name)
		}
	}
	c.written(e)
	c.size = wanted.sizes()
	return wanted
}

// list adds the elements of a pool.
func (p *pool) list(to *elements) {
	to.ports[p.id] = p.value
	for i := range p.lists {
		for slot, e := range p.lists[i] {
			to.slots[proxySlotKey{Port: p.id, Slot: listBase(i) + uint32(slot)}] = encodeEndpoint(e)
		}
	}
	for a, flags := range p.members {
		to.members[memberKey(p.id, a)] = flags
	}
	for _, s := range p.sources {
		to.ranges[encodeRange(p.id, s)] = 1
	}
}

// diffElements gives what has to be written to make found wanted.
func diffElements(found, wanted *elements) *edits {
	e := &edits{}
	e.noRanges = diffMap(&e.ranges, found.ranges, wanted.ranges)
	e.noMembers = diffMap(&e.members, found.members, wanted.members)
	e.noSlots = diffMap(&e.slots, found.slots, wanted.slots)
	for id, v := range wanted.ports {
		if old, known := found.ports[id]; known {
			e.setPort(id, old, v)
		} else {
			e.ports.add(id, v)
		}
	}
	e.noPorts = diffMap(&puts[uint32, proxyPort]{}, found.ports, wanted.ports)
	e.noFrontends = diffMap(&e.frontends, found.frontends, wanted.frontends)
	return e
}

func diffMap[K, V comparable](p *puts[K, V], found, wanted map[K]V) (gone []K) {
	for k, v := range wanted {
		if have, ok := found[k]; !ok || have != v {
			p.add(k, v)
		}
	}
	for k := range found {
		if _, stays := wanted[k]; !stays {
			gone = append(gone, k)
		}
	}
	return gone
}

// goneFrontends are those that e removes.
func goneFrontends(e *edits) (out []lb.Frontend) {
	for _, k := range e.noFrontends {
		if f := decodeFrontend(k); f.Proto != 0 {
			out = append(out, f)
		}
	}
	return out
}

// asLocals lists what map locals has to hold.
func asLocals(cfg *lb.Config, addrs []netip.Addr) map[proxyAddr]proxyLocal {
	out := map[proxyAddr]proxyLocal{}
	for _, a := range addrs {
		l := proxyLocal{}
		if cfg.NodePortsOn(a) {
			l.NodePorts = 1
		}
		out[encodeAddr(a)] = l
	}
	return out
}
