package store

import "hash/maphash"

// tree is a persistent map ordered by text: a change copies the nodes on the
// way to it, so older versions stay as they were. It is a treap: a search tree
// by text, and a heap by a random rank of the text, which keeps it shallow
// whatever the texts are (a seed that nobody knows). Each node knows the newest
// revision below it, so what changed since a revision is found without looking
// at the rest. The zero value has no seed and is not usable.
type tree[K, V any] struct {
	root *node[K, V]
	size int
	seed maphash.Seed
}

// node is one entry.
type node[K, V any] struct {
	text  string
	key   K
	value V
	rev   Revision
	// newest is the greatest revision of this entry and of all below.
	newest Revision
	// made is the commit that made the node; until it is published it may write the node in place.
	made        Revision
	left, right *node[K, V]
}

func newTree[K, V any]() tree[K, V] { return tree[K, V]{seed: maphash.MakeSeed()} }

func (t tree[K, V]) get(text string) *node[K, V] {
	n := t.root
	for n != nil && n.text != text {
		if text < n.text {
			n = n.left
		} else {
			n = n.right
		}
	}
	return n
}

// all yields the entries from a text on, in order; false when it was told to stop.
func (t tree[K, V]) all(from string, yield func(*node[K, V]) bool) bool {
	return t.root.all(from, yield)
}

func (n *node[K, V]) all(from string, yield func(*node[K, V]) bool) bool {
	if n == nil {
		return true
	}
	if n.text < from {
		return n.right.all(from, yield)
	}
	return n.left.all(from, yield) && yield(n) && n.right.all("", yield)
}

// since yields the entries of later revisions, in order of their texts; false when it was told to stop.
func (t tree[K, V]) since(r Revision, yield func(*node[K, V]) bool) bool {
	return t.root.since(r, yield)
}

func (n *node[K, V]) since(r Revision, yield func(*node[K, V]) bool) bool {
	if n == nil || n.newest <= r {
		return true
	}
	return n.left.since(r, yield) && (n.rev <= r || yield(n)) && n.right.since(r, yield)
}

// set puts e, of which text, key, value and rev are given, in the place of an entry of the same text.
func (t *tree[K, V]) set(made Revision, e node[K, V]) {
	e.made = made
	if t.get(e.text) == nil {
		t.size++
	}
	t.root = t.put(t.root, &e)
}

// delete takes an entry away, nil when there is none.
func (t *tree[K, V]) delete(made Revision, text string) *node[K, V] {
	n := t.get(text)
	if n == nil {
		return nil
	}
	t.size--
	t.root = t.cut(t.root, made, text)
	return n
}

// above tells whether a is to be nearer to the root than b.
func (t *tree[K, V]) above(a, b string) bool {
	return maphash.String(t.seed, a) > maphash.String(t.seed, b)
}

func (t *tree[K, V]) put(n, e *node[K, V]) *node[K, V] {
	switch {
	case n == nil:
		return e.settle()
	case n.text == e.text:
		e.left, e.right = n.left, n.right
		return e.settle()
	case t.above(e.text, n.text): // it is not below, or it would have a higher one above it
		e.left, e.right = n.split(e.made, e.text)
		return e.settle()
	}
	n = n.own(e.made)
	if e.text < n.text {
		n.left = t.put(n.left, e)
	} else {
		n.right = t.put(n.right, e)
	}
	return n.settle()
}

// cut takes away an entry that is there.
func (t *tree[K, V]) cut(n *node[K, V], made Revision, text string) *node[K, V] {
	if n.text == text {
		return t.merge(n.left, n.right, made)
	}
	n = n.own(made)
	if text < n.text {
		n.left = t.cut(n.left, made, text)
	} else {
		n.right = t.cut(n.right, made, text)
	}
	return n.settle()
}

// merge joins two trees, of which all of a is before all of b.
func (t *tree[K, V]) merge(a, b *node[K, V], made Revision) *node[K, V] {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case t.above(b.text, a.text):
		b = b.own(made)
		b.left = t.merge(a, b.left, made)
		return b.settle()
	}
	a = a.own(made)
	a.right = t.merge(a.right, b, made)
	return a.settle()
}

// split parts what is before a text from what is behind it; the text itself is not there.
func (n *node[K, V]) split(made Revision, text string) (before, behind *node[K, V]) {
	if n == nil {
		return nil, nil
	}
	n = n.own(made)
	if n.text < text {
		n.right, behind = n.right.split(made, text)
		return n.settle(), behind
	}
	before, n.left = n.left.split(made, text)
	return before, n.settle()
}

// own gives a node that the commit may write: n itself when it made it.
func (n *node[K, V]) own(made Revision) *node[K, V] {
	if n.made == made {
		return n
	}
	c := *n
	c.made = made
	return &c
}

// settle brings newest up to date with the nodes below.
func (n *node[K, V]) settle() *node[K, V] {
	n.newest = n.rev
	if n.left != nil {
		n.newest = max(n.newest, n.left.newest)
	}
	if n.right != nil {
		n.newest = max(n.newest, n.right.newest)
	}
	return n
}
