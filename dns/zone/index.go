package zone

import (
	"encoding/binary"
	"hash/maphash"
	"iter"
	"math/bits"
)

const (
	// A change copies the array of groups, one group and one shard: at 10,000 keys
	// a shard holds ten.
	groupCount = 64
	groupSize  = 16
	shardCount = groupCount * groupSize
	// mostLoose is how many shards of a group may lie by themselves.
	mostLoose = groupSize / 2
)

// index is a persistent map from bytes to bytes: a change copies one shard and
// the arrays it is in, so a reader of the old version is never disturbed and needs no
// lock. It is made of few allocations, all but the arrays without pointers: a
// zone is most of what a node without a service proxy holds, and each object of
// its own would cost the collector's attention, a pointer and the rounding of
// its size. What is deleted or replaced leaves no room behind, because the
// shard it was in is written anew: an index is as large as one that was made
// of its entries at once, whatever its history.
type index struct {
	groups *[groupCount]*group // nil: of nothing
	size   int
	seed   maphash.Seed // unknown to who chooses the names
}

// group is some shards. All but a few lie together in one run of bytes and one
// of slots, so that an index that was built at once is made of large objects:
// among the garbage of a start thousands of small ones would each keep a span
// of the allocator from being given back. What shards that were written anew have
// left in the run stays with it, until there are too many of them (mostLoose)
// and the group is brought together again.
type group struct {
	shards [groupSize]shard
	// loose has a bit for each shard that lies by itself.
	loose uint16
}

// together gives the group with all its shards in one run.
func (g *group) together() *group {
	var slots, size int
	for i := range g.shards {
		slots += len(g.shards[i].slots)
		size += len(g.shards[i].data)
	}
	allSlots, all := make([]slot, 0, slots), make([]byte, 0, size)
	out := &group{}
	for i := range g.shards {
		s, at, off := &g.shards[i], len(allSlots), len(all)
		allSlots, all = append(allSlots, s.slots...), append(all, s.data...)
		out.shards[i] = shard{allSlots[at:len(allSlots):len(allSlots)], all[off:len(all):len(all)]}
	}
	return out
}

// shard is a hash table with linear probing, three quarters full at most, over
// entries that lie one behind the other in data.
type shard struct {
	slots []slot
	data  []byte
}

// slot says where the entry of a key is. hash is odd; 0: the slot is free.
type slot struct{ hash, off uint32 }

const (
	// entryHead is what is before a key: its length in one byte, and that of the value in four.
	entryHead = 1 + 4
	// spare is how much of a shard may be unused, beside as much again as is used, while it is edited.
	spare = 4096
)

// entry gives the entry at off, and where the next one begins.
func (s *shard) entry(off uint32) (key, value []byte, end uint32) {
	head := s.data[off:]
	k := off + entryHead
	v := k + uint32(head[0])
	end = v + binary.LittleEndian.Uint32(head[1:])
	return s.data[k:v:v], s.data[v:end:end], end
}

// get gives the value of a key; it must not be written to.
func (x *index) get(key []byte) (value []byte, ok bool) {
	if x.groups == nil {
		return nil, false
	}
	at, hash := place(x.seed, key)
	g := x.groups[at/groupSize]
	if g == nil {
		return nil, false
	}
	s := &g.shards[at%groupSize]
	i := s.find(hash, key)
	if i < 0 || s.slots[i].hash == 0 {
		return nil, false
	}
	_, value, _ = s.entry(s.slots[i].off)
	return value, true
}

// place gives the shard of a key, and its hash there.
func place(seed maphash.Seed, key []byte) (at, hash uint32) {
	h := maphash.Bytes(seed, key)
	return uint32(h % shardCount), uint32(h>>32) | 1
}

// find gives the slot of a key, or the free one where it would be; below 0 where there are none.
func (s *shard) find(hash uint32, key []byte) int {
	if len(s.slots) == 0 {
		return -1
	}
	mask := uint32(len(s.slots) - 1)
	for i := hash >> 1 & mask; ; i = (i + 1) & mask {
		o := s.slots[i]
		if o.hash == 0 {
			return int(i)
		}
		if o.hash == hash {
			if k, _, _ := s.entry(o.off); string(k) == string(key) {
				return int(i)
			}
		}
	}
}

// all yields every key and value, in no order.
func (x *index) all() iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		for s := range x.shards() {
			for _, o := range s.slots {
				if o.hash == 0 {
					continue
				}
				if k, v, _ := s.entry(o.off); !yield(k, v) {
					return
				}
			}
		}
	}
}

// shards yields the shards of the groups that there are.
func (x *index) shards() iter.Seq[*shard] {
	return func(yield func(*shard) bool) {
		if x.groups == nil {
			return
		}
		for _, g := range x.groups {
			for i := 0; g != nil && i < groupSize; i++ {
				if !yield(&g.shards[i]) {
					return
				}
			}
		}
	}
}

// edit collects changes to an index. Until done it may write the shards that are in own.
type edit struct {
	x      index
	own    map[uint32]*owned
	groups [groupCount]bool // those that are copies
}

// owned is what is known about a shard that may be written.
type owned struct {
	// live entries, and how many bytes they take of data.
	live, size int
	// copied: it is not the one of the version before any more.
	copied bool
}

func (x *index) edit() *edit { return &edit{x: *x} }

// done gives the index with all changes: each shard that was written to has
// nothing in it that is not used.
func (e *edit) done() index {
	for at, o := range e.own {
		g := e.x.groups[at/groupSize]
		s := &g.shards[at%groupSize]
		if fit := slotsFor(o.live); cap(s.data) != o.size || len(s.slots) != fit {
			*s = s.packed(fit, o.size, -1)
		}
		if g.loose &^= 1 << (at % groupSize); o.live > 0 {
			g.loose |= 1 << (at % groupSize)
		}
	}
	for i, copied := range e.groups {
		if copied && bits.OnesCount16(e.x.groups[i].loose) >= mostLoose {
			e.x.groups[i] = e.x.groups[i].together()
		}
	}
	e.own, e.groups = nil, [groupCount]bool{}
	return e.x
}

// slotsFor is how many slots n entries have.
func slotsFor(n int) int {
	if n == 0 {
		return 0
	}
	room := 4
	for room*3 < n*4 {
		room *= 2
	}
	return room
}

// packed gives a shard with so many slots, room for size bytes and the entries of s but for that of one slot.
func (s *shard) packed(slots, size, without int) shard {
	if slots == 0 {
		return shard{}
	}
	out := shard{make([]slot, slots), make([]byte, 0, size)}
	mask := uint32(slots - 1)
	for at, o := range s.slots {
		if o.hash == 0 || at == without {
			continue
		}
		i := o.hash >> 1 & mask
		for out.slots[i].hash != 0 {
			i = (i + 1) & mask
		}
		out.slots[i] = slot{o.hash, uint32(len(out.data))}
		_, _, end := s.entry(o.off)
		out.data = append(out.data, s.data[o.off:end]...)
	}
	return out
}

// shard gives the shard of a key, the slot of its entry (below 0: there is none) and its hash.
func (e *edit) shard(key []byte) (s *shard, o *owned, at int, hash uint32) {
	if e.x.groups == nil {
		e.x.groups, e.own = new([groupCount]*group), map[uint32]*owned{}
		e.x.seed = maphash.MakeSeed() // the first key makes the seed
	}
	place, hash := place(e.x.seed, key)
	s, o = e.writable(place), e.own[place]
	if o == nil {
		o = &owned{size: len(s.data)} // it was left without anything unused
		for _, slot := range s.slots {
			if slot.hash != 0 {
				o.live++
			}
		}
		e.own[place] = o
	}
	if at = s.find(hash, key); at >= 0 && s.slots[at].hash == 0 {
		at = -1
	}
	return s, o, at, hash
}

// writable gives a shard in arrays that are not those of the version before.
func (e *edit) writable(place uint32) *shard {
	if e.own == nil {
		groups := *e.x.groups
		e.x.groups, e.own = &groups, map[uint32]*owned{}
	}
	if n := place / groupSize; !e.groups[n] {
		g := new(group)
		if was := e.x.groups[n]; was != nil {
			*g = *was
		}
		e.x.groups[n], e.groups[n] = g, true
	}
	return &e.x.groups[place/groupSize].shards[place%groupSize]
}

func (e *edit) get(key []byte) (value []byte, ok bool) { return e.x.get(key) }

// set gives a key of at most 255 bytes its value; both are copied.
func (e *edit) set(key, value []byte) {
	s, o, at, hash := e.shard(key)
	if at < 0 {
		o.live++
		e.x.size++
	} else {
		o.size -= s.sizeAt(at)
	}
	o.size += entryHead + len(key) + len(value)
	// One change leaves nothing to be packed: the copy is as large as it has to be.
	if fit := slotsFor(o.live); !o.copied || fit > len(s.slots) || len(s.data) > 2*o.size+spare {
		*s, at = s.packed(max(fit, len(s.slots)), o.size, at), -1
		o.copied = true
	}
	if at < 0 {
		at = s.find(hash, key)
	}
	s.slots[at] = slot{hash, uint32(len(s.data))}
	s.data = append(s.data, byte(len(key)))
	s.data = binary.LittleEndian.AppendUint32(s.data, uint32(len(value)))
	s.data = append(append(s.data, key...), value...)
}

func (s *shard) sizeAt(i int) int {
	off := s.slots[i].off
	_, _, end := s.entry(off)
	return int(end - off)
}

func (e *edit) delete(key []byte) {
	if _, ok := e.get(key); !ok {
		return
	}
	s, o, at, _ := e.shard(key)
	o.live--
	o.size -= s.sizeAt(at)
	e.x.size--
	// Others may have gone past its slot: all find their places anew.
	*s = s.packed(slotsFor(o.live), o.size, at)
	o.copied = true
}
