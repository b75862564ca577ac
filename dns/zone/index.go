package zone

import (
	"hash/maphash"
	"iter"
	"slices"
)

// shardCount trades the cost of a change (one array of that many slices and
// one shard are copied) against that of a shard: at 10,000 keys a shard holds 20.
const shardCount = 512

// index is a persistent map: a change copies one shard and the array, so a
// reader of the old version is never disturbed and needs no lock. A lookup of
// one of many keys costs the memory it has to wait for, so it touches little:
// the slice of a shard, one or two of its slots, and the key.
type index[V any] struct {
	shards *[shardCount]shard[V]
	size   int
	seed   maphash.Seed // unknown to who chooses the names
}

// shard is a hash table with linear probing, three quarters full at most.
type shard[V any] []slot[V]

type slot[V any] struct {
	key   string
	value V
	hash  uint32 // odd; 0: the slot is free
}

func (x index[V]) get(key []byte) (v V, ok bool) {
	if x.shards == nil {
		return v, false
	}
	at, hash := place(x.seed, key)
	if s := x.shards[at]; len(s) > 0 {
		if i := s.find(hash, key); s[i].hash != 0 {
			return s[i].value, true
		}
	}
	return v, false
}

// place gives the shard of a key, and its hash there.
func place(seed maphash.Seed, key []byte) (at, hash uint32) {
	h := maphash.Bytes(seed, key)
	return uint32(h % shardCount), uint32(h>>32) | 1
}

// find gives the slot of a key, or the free one where it would be.
func (s shard[V]) find(hash uint32, key []byte) int {
	mask := uint32(len(s) - 1)
	for i := hash >> 1 & mask; ; i = (i + 1) & mask {
		if s[i].hash == 0 || s[i].hash == hash && s[i].key == string(key) {
			return int(i)
		}
	}
}

// sized gives a shard with the slots of s and room for n.
func (s shard[V]) sized(n int) shard[V] {
	room := 4
	for room*3 < n*4 {
		room *= 2
	}
	if room == len(s) {
		return slices.Clone(s)
	}
	out := make(shard[V], room)
	for _, o := range s {
		if o.hash != 0 {
			out[out.find(o.hash, []byte(o.key))] = o
		}
	}
	return out
}

// all yields every key and value, in no order.
func (x index[V]) all() iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		if x.shards == nil {
			return
		}
		for _, s := range x.shards {
			for i := range s {
				if s[i].hash != 0 && !yield(s[i].key, s[i].value) {
					return
				}
			}
		}
	}
}

// edit collects changes to an index.
type edit[V any] struct {
	x index[V]
	// own counts the entries of the shards that are already copies.
	own map[uint32]int
}

func (x index[V]) edit() *edit[V] { return &edit[V]{x: x} }

// shard gives a shard that may be written, with room for one more.
func (e *edit[V]) shard(at uint32) shard[V] {
	if e.own == nil {
		e.own = map[uint32]int{}
		shards := new([shardCount]shard[V])
		if e.x.shards != nil {
			*shards = *e.x.shards
		}
		e.x.shards = shards
	}
	s := e.x.shards[at]
	n, own := e.own[at]
	if !own {
		for i := range s {
			if s[i].hash != 0 {
				n++
			}
		}
		e.own[at] = n
	}
	if !own || (n+1)*4 > len(s)*3 {
		s = s.sized(n + 1)
		e.x.shards[at] = s
	}
	return s
}

// place gives the place of a key; the first one makes the seed.
func (e *edit[V]) place(key []byte) (at, hash uint32) {
	if e.x.shards == nil {
		e.x.seed = maphash.MakeSeed()
		e.x.shards, e.own = new([shardCount]shard[V]), map[uint32]int{}
	}
	return place(e.x.seed, key)
}

func (e *edit[V]) get(key string) (v V, ok bool) { return e.x.get([]byte(key)) }

func (e *edit[V]) set(key string, v V) {
	at, hash := e.place([]byte(key))
	s := e.shard(at)
	i := s.find(hash, []byte(key))
	if s[i].hash == 0 {
		e.own[at]++
		e.x.size++
	}
	s[i] = slot[V]{key, v, hash}
}

func (e *edit[V]) delete(key string) {
	at, hash := e.place([]byte(key))
	s := e.shard(at)
	gone := s.find(hash, []byte(key))
	if s[gone].hash == 0 {
		return
	}
	e.own[at]--
	e.x.size--
	// Others may have gone past it: all find their places anew.
	rest := make(shard[V], len(s))
	for i, o := range s {
		if o.hash != 0 && i != gone {
			rest[rest.find(o.hash, []byte(o.key))] = o
		}
	}
	e.x.shards[at] = rest
}
