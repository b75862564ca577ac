package store

import (
	"encoding/binary"
	"fmt"
	"iter"

	iradix "github.com/hashicorp/go-immutable-radix/v2"
)

// Revision numbers the states of the world, from 1 (empty) on.
type Revision uint64

// tombstoneLimit bounds the deleted keys a table remembers. A reader that is
// further behind pays for a full comparison instead.
const tombstoneLimit = 4096

// Key is what a table can be keyed by. String must differ for different keys
// and gives the order of All.
type Key interface {
	comparable
	fmt.Stringer
}

// Table is a persistent map that knows what changed since an older version of
// itself. The zero value is not usable; tables come out of a Snapshot.
type Table[K Key, V any] struct {
	items *iradix.Tree[entry[K, V]]
	// live and dead are indexes of the present and of the deleted keys by
	// revision then key. dead is cut to tombstoneLimit.
	live *iradix.Tree[K]
	dead *iradix.Tree[K]
	// gone gives for each remembered deleted key its revision.
	gone *iradix.Tree[Revision]
	// floor is the newest revision whose tombstone was dropped.
	floor Revision
	// last is the revision of the last change.
	last   Revision
	synced bool
	same   func(a, b V) bool
}

type entry[K Key, V any] struct {
	key   K
	value V
	rev   Revision
}

// Delta is one key whose value differs between two versions of a table.
type Delta[K Key, V any] struct {
	Key K
	// Old and New are the zero value where Was or Is is false.
	Old, New V
	Was, Is  bool
}

func newTable[K Key, V any](same func(a, b V) bool) Table[K, V] {
	return Table[K, V]{
		items: iradix.New[entry[K, V]](),
		live:  iradix.New[K](),
		dead:  iradix.New[K](),
		gone:  iradix.New[Revision](),
		same:  same,
	}
}

// Get gives the value of a key.
func (t Table[K, V]) Get(k K) (V, bool) {
	e, ok := t.items.Get([]byte(k.String()))
	return e.value, ok
}

// Len is the number of keys.
func (t Table[K, V]) Len() int { return t.items.Len() }

// Last is the revision of the last change of this table.
func (t Table[K, V]) Last() Revision { return t.last }

// Synced reports whether the table has had its first full list. Before that,
// a missing key means nothing, and nothing may be deleted because of it.
func (t Table[K, V]) Synced() bool { return t.synced }

// All yields every key and value in the order of the keys' text.
func (t Table[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		it := t.items.Root().Iterator()
		for _, e, ok := it.Next(); ok; _, e, ok = it.Next() {
			if !yield(e.key, e.value) {
				return
			}
		}
	}
}

// Missing tells whether a key is known not to be there: the table has had its
// first full list, or the key was deleted before that.
func (t Table[K, V]) Missing(k K) bool {
	key := []byte(k.String())
	if _, there := t.items.Get(key); there {
		return false
	}
	_, gone := t.gone.Get(key)
	return gone || t.synced
}

// Since yields the keys that changed after prev, an older version of the same
// table, deleted ones included. The zero Table as prev yields every key.
func (t Table[K, V]) Since(prev Table[K, V]) iter.Seq[Delta[K, V]] {
	return func(yield func(Delta[K, V]) bool) {
		if t.last == prev.last && prev.items != nil {
			return
		}
		if prev.items == nil {
			for k, v := range t.All() {
				if !yield(Delta[K, V]{Key: k, New: v, Is: true}) {
					return
				}
			}
			return
		}
		if t.floor > prev.last && !t.yieldLost(prev, yield) {
			return
		}
		if !t.yieldIndex(t.dead, prev, yield) {
			return
		}
		t.yieldIndex(t.live, prev, yield)
	}
}

// yieldIndex yields the keys of one index that are newer than prev.
func (t Table[K, V]) yieldIndex(index *iradix.Tree[K], prev Table[K, V], yield func(Delta[K, V]) bool) bool {
	it := index.Root().Iterator()
	it.SeekLowerBound(revKey(prev.last+1, ""))
	for _, k, ok := it.Next(); ok; _, k, ok = it.Next() {
		d := Delta[K, V]{Key: k}
		d.Old, d.Was = prev.Get(k)
		d.New, d.Is = t.Get(k)
		if (d.Was || d.Is) && !yield(d) {
			return false
		}
	}
	return true
}

// yieldLost yields the deleted keys whose tombstones are no longer remembered.
func (t Table[K, V]) yieldLost(prev Table[K, V], yield func(Delta[K, V]) bool) bool {
	for k, v := range prev.All() {
		key := []byte(k.String())
		if _, ok := t.items.Get(key); ok {
			continue
		}
		if _, ok := t.gone.Get(key); ok {
			continue
		}
		if !yield(Delta[K, V]{Key: k, Old: v, Was: true}) {
			return false
		}
	}
	return true
}

// revKey orders by revision, then by key.
func revKey(r Revision, key string) []byte {
	b := make([]byte, 8, 8+len(key))
	binary.BigEndian.PutUint64(b, uint64(r))
	return append(b, key...)
}
