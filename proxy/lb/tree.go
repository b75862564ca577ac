package lb

import (
	"iter"
	"slices"
)

// fan is the number of children of a tree's three inner levels: 4096 buckets, so that a change copies
// some 40 pointers and one short bucket even with 100,000 keys.
const fan = 16

// tree is a persistent map: with and without give a new tree that shares all
// but the changed path with the old one, which stays as it was.
type tree[K comparable, V any] struct {
	hash func(K) uint32
	root *trunk[K, V]
	n    int
}

type trunk[K comparable, V any] struct {
	owner *editor
	kids  [fan]*branch[K, V]
}

type branch[K comparable, V any] struct {
	owner *editor
	kids  [fan]*twig[K, V]
}

type twig[K comparable, V any] struct {
	owner *editor
	// own has a bit for each bucket that the owner made: it may be changed in place too.
	own  uint16
	kids [fan][]entry[K, V]
}

type entry[K comparable, V any] struct {
	key   K
	value V
}

// editor marks the nodes that were made in one Advance: they may be changed
// in place, nobody else has seen them.
type editor struct{ _ byte }

// path is where a hash leads, from the root on.
func path(h uint32) (trunk, branch, twig uint32) { return h % fan, h / fan % fan, h / fan / fan % fan }

func (t *tree[K, V]) get(k K) (v V, ok bool) {
	if t.root == nil {
		return v, false
	}
	i, j, l := path(t.hash(k))
	b := t.root.kids[i]
	if b == nil || b.kids[j] == nil {
		return v, false
	}
	in := b.kids[j].kids[l]
	for i := range in {
		if e := &in[i]; e.key == k {
			return e.value, true
		}
	}
	return v, false
}

func (t *tree[K, V]) len() int { return t.n }

// bucket gives the place of a key for changes, with the path to it and the bucket copied unless ed
// made them.
func (t *tree[K, V]) bucket(ed *editor, k K) *[]entry[K, V] {
	switch {
	case t.root == nil:
		t.root = &trunk[K, V]{owner: ed}
	case t.root.owner != ed:
		t.root = &trunk[K, V]{owner: ed, kids: t.root.kids}
	}
	i, j, l := path(t.hash(k))
	b := &t.root.kids[i]
	switch {
	case *b == nil:
		*b = &branch[K, V]{owner: ed}
	case (*b).owner != ed:
		*b = &branch[K, V]{owner: ed, kids: (*b).kids}
	}
	slot := &(*b).kids[j]
	switch {
	case *slot == nil:
		*slot = &twig[K, V]{owner: ed}
	case (*slot).owner != ed:
		*slot = &twig[K, V]{owner: ed, kids: (*slot).kids}
	}
	if w := *slot; w.own&(1<<l) == 0 {
		w.own |= 1 << l
		w.kids[l] = append(make([]entry[K, V], 0, len(w.kids[l])+1), w.kids[l]...)
	}
	return &(*slot).kids[l]
}

// set changes the tree value that t points to; trees that share nodes with it do not change.
func (t *tree[K, V]) set(ed *editor, k K, v V) {
	b := t.bucket(ed, k)
	for i := range *b {
		if e := &(*b)[i]; e.key == k {
			e.value = v
			return
		}
	}
	*b = append(*b, entry[K, V]{k, v})
	t.n++
}

func (t *tree[K, V]) delete(ed *editor, k K) {
	if _, ok := t.get(k); !ok {
		return
	}
	b := t.bucket(ed, k)
	*b = slices.DeleteFunc(*b, func(e entry[K, V]) bool { return e.key == k })
	t.n--
}

// all yields everything, in no particular order.
func (t *tree[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		if t.root == nil {
			return
		}
		for _, b := range t.root.kids {
			if b != nil && !b.all(yield) {
				return
			}
		}
	}
}

func (b *branch[K, V]) all(yield func(K, V) bool) bool {
	for _, w := range b.kids {
		if w == nil {
			continue
		}
		for _, in := range w.kids {
			for i := range in {
				if !yield(in[i].key, in[i].value) {
					return false
				}
			}
		}
	}
	return true
}

// touched yields the keys of the buckets in which the two trees may differ:
// a superset of the keys that differ, at the cost of the changes.
func (t *tree[K, V]) touched(old *tree[K, V]) iter.Seq[K] {
	return func(yield func(K) bool) {
		if t.root == old.root {
			return
		}
		var a, b trunk[K, V]
		if old.root != nil {
			a = *old.root
		}
		if t.root != nil {
			b = *t.root
		}
		for i := range fan {
			if a.kids[i] != b.kids[i] && !touchedBelow(a.kids[i], b.kids[i], yield) {
				return
			}
		}
	}
}

func touchedBelow[K comparable, V any](a, b *branch[K, V], yield func(K) bool) bool {
	var none branch[K, V]
	if a == nil {
		a = &none
	}
	if b == nil {
		b = &none
	}
	for i := range fan {
		if a.kids[i] != b.kids[i] && !touchedIn(a.kids[i], b.kids[i], yield) {
			return false
		}
	}
	return true
}

func touchedIn[K comparable, V any](a, b *twig[K, V], yield func(K) bool) bool {
	var none twig[K, V]
	if a == nil {
		a = &none
	}
	if b == nil {
		b = &none
	}
	for i := range fan {
		x, y := a.kids[i], b.kids[i]
		if len(x) == len(y) && (len(x) == 0 || &x[0] == &y[0]) {
			continue
		}
		for j := range x {
			if !yield(x[j].key) {
				return false
			}
		}
		for j := range y {
			if !contains(x, y[j].key) && !yield(y[j].key) {
				return false
			}
		}
	}
	return true
}

func contains[K comparable, V any](b []entry[K, V], k K) bool {
	for i := range b {
		if b[i].key == k {
			return true
		}
	}
	return false
}

// fnv1a is the hash of the trees: the same in every process, so that nothing
// depends on chance.
func fnv1a[T ~string | ~[]byte](h uint32, s T) uint32 {
	for i := range len(s) {
		h = (h ^ uint32(s[i])) * 16777619
	}
	return h
}

const fnvStart = 2166136261

// mix spreads the hash over the low bits that the tree uses.
func mix(h uint32) uint32 { return h ^ h>>15 }
