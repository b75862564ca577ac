package store

// Tx changes one table within one commit. It must not be used after the
// function it was given to has returned.
type Tx[K Key, V any] struct {
	rev      Revision
	old, now Table[K, V]
	dirty    bool
}

func begin[K Key, V any](t Table[K, V], rev Revision) *Tx[K, V] {
	now := *t.edition
	return &Tx[K, V]{rev: rev, old: t, now: Table[K, V]{&now}}
}

// Get reads the table as changed so far.
func (tx *Tx[K, V]) Get(k K) (V, bool) { return tx.now.Get(k) }

// Before is the table as it was when the commit began.
func (tx *Tx[K, V]) Before() Table[K, V] { return tx.old }

// Set gives a key its value. A value that is the same as the present one is no change.
func (tx *Tx[K, V]) Set(k K, v V) {
	name := k.String()
	if old := tx.now.items.get(name); old != nil {
		if tx.now.same != nil && tx.now.same(tx.now.valueOf(old), v) {
			return
		}
		name = old.text // one copy
	} else if tomb := tx.now.gone.delete(tx.rev, name); tomb != nil {
		tx.now.dead.delete(tx.rev, revKey(tomb.rev, name))
	}
	kept := cell[V]{value: v}
	if p := tx.now.pack; p != nil {
		all := name + p.pack(v) // one object for the text, the key and the value
		name, kept = all[:len(name)], cell[V]{packed: all[len(name):]}
		k = p.key(name)
	}
	tx.now.items.set(tx.rev, node[K, cell[V]]{text: name, key: k, value: kept, rev: tx.rev})
	tx.dirty = true
}

// Delete removes a key; removing an absent one is no change.
func (tx *Tx[K, V]) Delete(k K) {
	old := tx.now.items.delete(tx.rev, k.String())
	if old == nil {
		return
	}
	tx.now.dead.set(tx.rev, node[K, struct{}]{text: revKey(tx.rev, old.text), key: k, rev: tx.rev})
	tx.now.gone.set(tx.rev, node[K, struct{}]{text: old.text, key: k, rev: tx.rev})
	tx.dirty = true
}

// Replace makes the table hold exactly these values and marks it synced.
func (tx *Tx[K, V]) Replace(values map[K]V) {
	for k := range tx.old.All() {
		if _, ok := values[k]; !ok {
			tx.Delete(k)
		}
	}
	for k, v := range values {
		tx.Set(k, v)
	}
	tx.Synced()
}

// Synced marks that the table has had its first full list.
func (tx *Tx[K, V]) Synced() {
	if !tx.now.synced {
		tx.now.synced = true
		tx.dirty = true
	}
}

func (tx *Tx[K, V]) commit() Table[K, V] {
	tx.forget()
	tx.now.last = tx.rev
	return tx.now
}

// forget drops the oldest tombstones beyond the limit.
func (tx *Tx[K, V]) forget() {
	most := tx.now.dead.size - tombstoneLimit
	if most <= 0 {
		return
	}
	oldest := make([]*node[K, struct{}], 0, most)
	tx.now.dead.all("", func(n *node[K, struct{}]) bool {
		oldest = append(oldest, n)
		return len(oldest) < most
	})
	for _, n := range oldest {
		tx.now.floor = max(tx.now.floor, n.rev)
		tx.now.gone.delete(tx.rev, n.key.String())
		tx.now.dead.delete(tx.rev, n.text)
	}
}
