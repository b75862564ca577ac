package store

import (
	"encoding/binary"
	"fmt"
	"iter"
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
// itself. The zero value is empty and not synced; others come out of a Snapshot.
type Table[K Key, V any] struct {
	*edition[K, V] // small, because each commit copies all tables of a Snapshot
}

// edition is what a table is at one revision. It does not change once it is published.
type edition[K Key, V any] struct {
	// items are by key.
	items tree[K, cell[V]]
	// dead are the deleted keys that are remembered, by revision then key; it is
	// cut to tombstoneLimit. gone are the same by key.
	dead, gone tree[K, struct{}]
	// floor is the newest revision whose tombstone was dropped.
	floor Revision
	// last is the revision of the last change.
	last   Revision
	synced bool
	same   func(a, b V) bool
	// pack is nil for a table that keeps its values as they are.
	pack *packing[K, V]
}

// cell is a value as a table keeps it: as it is, or packed.
type cell[V any] struct {
	value  V
	packed string
}

// packing is for tables of which little is read: it makes a string of a value,
// a value of that, and a key that shares the bytes of its text.
type packing[K Key, V any] struct {
	key    func(text string) K
	pack   func(V) string
	unpack func(K, string) V
}

// Delta is one key whose value differs between two versions of a table.
type Delta[K Key, V any] struct {
	Key K
	// Old and New are the zero value where Was or Is is false.
	Old, New V
	Was, Is  bool
}

func newTable[K Key, V any](same func(a, b V) bool) Table[K, V] {
	return Table[K, V]{&edition[K, V]{
		items: newTree[K, cell[V]](), dead: newTree[K, struct{}](), gone: newTree[K, struct{}](), same: same,
	}}
}

// get is the edition of a table, which the zero Table lacks.
func (t Table[K, V]) get() *edition[K, V] {
	if t.edition == nil {
		return &edition[K, V]{}
	}
	return t.edition
}

// Get gives the value of a key.
func (t Table[K, V]) Get(k K) (v V, ok bool) {
	if n := t.get().items.get(k.String()); n != nil {
		return t.valueOf(n), true
	}
	return v, false
}

func (t *edition[K, V]) valueOf(n *node[K, cell[V]]) V {
	if t.pack != nil {
		return t.pack.unpack(n.key, n.value.packed)
	}
	return n.value.value
}

// Len is the number of keys.
func (t Table[K, V]) Len() int { return t.get().items.size }

// Last is the revision of the last change of this table.
func (t Table[K, V]) Last() Revision { return t.get().last }

// Synced reports whether the table has had its first full list. Before that,
// a missing key means nothing, and nothing may be deleted because of it.
func (t Table[K, V]) Synced() bool { return t.get().synced }

// All yields every key and value in the order of the keys' text.
func (t Table[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		t.get().items.all("", func(n *node[K, cell[V]]) bool { return yield(n.key, t.valueOf(n)) })
	}
}

// Missing tells whether a key is known not to be there: the table has had its
// first full list, or the key was deleted before that.
func (t Table[K, V]) Missing(k K) bool {
	key, e := k.String(), t.get()
	return e.items.get(key) == nil && (e.synced || e.gone.get(key) != nil)
}

// Since yields the keys that changed after prev, an older version of the same
// table, deleted ones first. The zero Table as prev yields every key.
func (t Table[K, V]) Since(prev Table[K, V]) iter.Seq[Delta[K, V]] {
	t.edition = t.get()
	return func(yield func(Delta[K, V]) bool) {
		if prev.edition == nil {
			for k, v := range t.All() {
				if !yield(Delta[K, V]{Key: k, New: v, Is: true}) {
					return
				}
			}
			return
		}
		if t.last == prev.last || t.floor > prev.last && !t.yieldLost(prev, yield) || !t.yieldDead(prev, yield) {
			return
		}
		t.items.since(prev.last, func(n *node[K, cell[V]]) bool {
			d := Delta[K, V]{Key: n.key, New: t.valueOf(n), Is: true}
			if old := prev.items.get(n.text); old != nil {
				d.Old, d.Was = prev.valueOf(old), true
			}
			return yield(d)
		})
	}
}

// yieldDead yields the deleted keys whose tombstones are remembered.
func (t Table[K, V]) yieldDead(prev Table[K, V], yield func(Delta[K, V]) bool) bool {
	return t.dead.all(revKey(prev.last+1, ""), func(n *node[K, struct{}]) bool {
		old := prev.items.get(n.key.String())
		return old == nil || yield(Delta[K, V]{Key: n.key, Old: prev.valueOf(old), Was: true})
	})
}

// yieldLost yields the deleted keys whose tombstones are no longer remembered.
func (t Table[K, V]) yieldLost(prev Table[K, V], yield func(Delta[K, V]) bool) bool {
	return prev.items.all("", func(n *node[K, cell[V]]) bool {
		if t.items.get(n.text) != nil || t.gone.get(n.text) != nil {
			return true
		}
		return yield(Delta[K, V]{Key: n.key, Old: prev.valueOf(n), Was: true})
	})
}

// revKey orders by revision, then by key.
func revKey(r Revision, key string) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(r))
	return string(b[:]) + key
}
