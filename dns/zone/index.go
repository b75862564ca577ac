package zone

import (
	"encoding/binary"
	"hash/maphash"
	"iter"
)

// shardCount trades the cost of a change (the array of shards and one shard are
// copied) against that of a shard: at 10,000 keys a shard holds 20.
const shardCount = 512

// index is a persistent map from bytes to bytes: a change copies one shard and
// the array, so a reader of the old version is never disturbed and needs no
// lock. It is made of few allocations, all but the array without pointers: a
// zone is most of what a node without a service proxy holds, and each object of
// its own would cost the collector's attention, a pointer and the rounding of
// its size. What is deleted or replaced leaves no room behind, because the
// shard it was in is written anew: an index is as large as one that was made
// of its entries at once, whatever its history.
type index struct {
	shards *[shardCount]shard
	size   int
	seed   maphash.Seed // unknown to who chooses the names
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
	if x.shards == nil {
		return nil, false
	}
	at, hash := place(x.seed, key)
	s := &x.shards[at]
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
		if x.shards == nil {
			return
		}
		for i := range x.shards {
			s := &x.shards[i]
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

// edit collects changes to an index. Until done it may write the shards that are in own.
type edit struct {
	x   index
	own map[uint32]*owned
}

// owned is what is known about a shard that is a copy.
type owned struct {
	// live entries, and how many bytes they take of data.
	live, size int
}

func (x *index) edit() *edit { return &edit{x: *x} }

// done gives the index with all changes: each shard that was written to has
// nothing in it that is not used.
func (e *edit) done() index {
	for at, o := range e.own {
		s := &e.x.shards[at]
		if fit := slotsFor(o.live); len(s.data) != cap(s.data) || len(s.data) != o.size || len(s.slots) != fit {
			*s = s.packed(fit, o.size)
		}
	}
	e.own = nil
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

// packed gives a shard with so many slots and the entries of s, which are size bytes.
func (s *shard) packed(slots, size int) shard {
	if slots == 0 {
		return shard{}
	}
	out := shard{make([]slot, slots), make([]byte, 0, size)}
	mask := uint32(slots - 1)
	for _, o := range s.slots {
		if o.hash == 0 {
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

// shard gives the shard of a key to be written, with a free slot, and the key's hash.
func (e *edit) shard(key []byte) (s *shard, o *owned, hash uint32) {
	if e.x.shards == nil {
		e.x.seed = maphash.MakeSeed() // the first key makes the seed
	}
	at, hash := place(e.x.seed, key)
	if e.own == nil {
		e.own = map[uint32]*owned{}
		shards := new([shardCount]shard)
		if e.x.shards != nil {
			*shards = *e.x.shards
		}
		e.x.shards = shards
	}
	s, o = &e.x.shards[at], e.own[at]
	if o == nil {
		o = &owned{size: len(s.data)} // it was left without anything unused
		for _, slot := range s.slots {
			if slot.hash != 0 {
				o.live++
			}
		}
		e.own[at] = o
		*s = s.packed(slotsFor(o.live+1), o.size)
	} else if fit := slotsFor(o.live + 1); fit > len(s.slots) || len(s.data) > 2*o.size+spare {
		*s = s.packed(max(fit, len(s.slots)), o.size)
	}
	return s, o, hash
}

func (e *edit) get(key []byte) (value []byte, ok bool) { return e.x.get(key) }

// set gives a key of at most 255 bytes its value; both are copied.
func (e *edit) set(key, value []byte) {
	s, o, hash := e.shard(key)
	i := s.find(hash, key)
	if s.slots[i].hash == 0 {
		o.live++
		e.x.size++
	} else {
		o.size -= s.sizeAt(i)
	}
	s.slots[i] = slot{hash, uint32(len(s.data))}
	s.data = append(s.data, byte(len(key)))
	s.data = binary.LittleEndian.AppendUint32(s.data, uint32(len(value)))
	s.data = append(append(s.data, key...), value...)
	o.size += entryHead + len(key) + len(value)
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
	s, o, hash := e.shard(key)
	gone := s.find(hash, key)
	o.live--
	o.size -= s.sizeAt(gone)
	e.x.size--
	s.slots[gone] = slot{}
	// Others may have gone past it: all find their places anew.
	*s = s.packed(len(s.slots), o.size)
}
