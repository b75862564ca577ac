package zone

import "maps"

// shardCount trades the cost of a change (one array of that many pointers and
// one shard are copied) against that of a shard: at 10,000 keys a shard holds 20.
const shardCount = 512

// index is a persistent map: a change copies one shard and the array, so a
// reader of the old version is never disturbed and needs no lock.
type index[V any] struct {
	shards *[shardCount]map[string]V
	size   int
}

func (x index[V]) get(key []byte) (v V, ok bool) {
	if x.shards == nil {
		return v, false
	}
	v, ok = x.shards[shardOf(key)][string(key)]
	return v, ok
}

// shardOf is FNV-1a.
func shardOf[T string | []byte](key T) uint32 {
	h := uint32(2166136261)
	for i := range len(key) {
		h = (h ^ uint32(key[i])) * 16777619
	}
	return (h ^ h>>16) % shardCount
}

// edit collects changes to an index.
type edit[V any] struct {
	x   index[V]
	own map[uint32]bool // the shards that are already copies
}

func (x index[V]) edit() *edit[V] { return &edit[V]{x: x} }

// shard gives a shard that may be written.
func (e *edit[V]) shard(key string) map[string]V {
	if e.own == nil {
		e.own = map[uint32]bool{}
		shards := new([shardCount]map[string]V)
		if e.x.shards != nil {
			*shards = *e.x.shards
		}
		e.x.shards = shards
	}
	i := shardOf(key)
	if !e.own[i] {
		e.own[i] = true
		if e.x.shards[i] = maps.Clone(e.x.shards[i]); e.x.shards[i] == nil {
			e.x.shards[i] = map[string]V{}
		}
	}
	return e.x.shards[i]
}

func (e *edit[V]) get(key string) (v V, ok bool) {
	if e.x.shards == nil {
		return v, false
	}
	v, ok = e.x.shards[shardOf(key)][key]
	return v, ok
}

func (e *edit[V]) set(key string, v V) {
	m := e.shard(key)
	before := len(m)
	m[key] = v
	e.x.size += len(m) - before
}

func (e *edit[V]) delete(key string) {
	m := e.shard(key)
	before := len(m)
	delete(m, key)
	e.x.size += len(m) - before
}
