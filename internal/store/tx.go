package store

import iradix "github.com/hashicorp/go-immutable-radix/v2"

// Tx changes one table within one commit. It must not be used after the
// function it was given to has returned.
type Tx[K Key, V any] struct {
	rev   Revision
	old   Table[K, V]
	items *iradix.Txn[entry[K, V]]
	live  *iradix.Txn[K]
	dead  *iradix.Txn[K]
	gone  *iradix.Txn[Revision]
	// tombs counts the entries of gone.
	tombs int
	floor Revision
	dirty bool
	sync  bool
}

func begin[K Key, V any](t Table[K, V], rev Revision) *Tx[K, V] {
	return &Tx[K, V]{
		rev: rev, old: t,
		items: t.items.Txn(), live: t.live.Txn(), dead: t.dead.Txn(), gone: t.gone.Txn(),
		tombs: t.gone.Len(), floor: t.floor,
	}
}

// Get reads the table as changed so far.
func (tx *Tx[K, V]) Get(k K) (V, bool) {
	e, ok := tx.items.Get([]byte(k.String()))
	return e.value, ok
}

// Before is the table as it was when the commit began.
func (tx *Tx[K, V]) Before() Table[K, V] { return tx.old }

// Set gives a key its value. A value that is the same as the present one is no change.
func (tx *Tx[K, V]) Set(k K, v V) {
	name := k.String()
	key := []byte(name)
	if old, ok := tx.items.Get(key); ok {
		if tx.old.same != nil && tx.old.same(old.value, v) {
			return
		}
		tx.live.Delete(revKey(old.rev, name))
	} else if rev, ok := tx.gone.Get(key); ok {
		tx.gone.Delete(key)
		tx.dead.Delete(revKey(rev, name))
		tx.tombs--
	}
	tx.items.Insert(key, entry[K, V]{key: k, value: v, rev: tx.rev})
	tx.live.Insert(revKey(tx.rev, name), k)
	tx.dirty = true
}

// Delete removes a key; removing an absent one is no change.
func (tx *Tx[K, V]) Delete(k K) {
	name := k.String()
	key := []byte(name)
	old, ok := tx.items.Delete(key)
	if !ok {
		return
	}
	tx.live.Delete(revKey(old.rev, name))
	tx.dead.Insert(revKey(tx.rev, name), k)
	tx.gone.Insert(key, tx.rev)
	tx.tombs++
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
	if !tx.old.synced {
		tx.sync = true
		tx.dirty = true
	}
}

func (tx *Tx[K, V]) commit() Table[K, V] {
	tx.forget()
	t := tx.old
	t.items, t.live, t.dead, t.gone = tx.items.Commit(), tx.live.Commit(), tx.dead.Commit(), tx.gone.Commit()
	t.floor, t.last = tx.floor, tx.rev
	t.synced = t.synced || tx.sync
	return t
}

// forget drops the oldest tombstones beyond the limit.
func (tx *Tx[K, V]) forget() {
	if tx.tombs <= tombstoneLimit {
		return
	}
	dead := tx.dead.Commit()
	tx.dead = dead.Txn()
	it := dead.Root().Iterator()
	for key, k, ok := it.Next(); ok && tx.tombs > tombstoneLimit; key, k, ok = it.Next() {
		name := []byte(k.String())
		if rev, ok := tx.gone.Delete(name); ok {
			tx.floor = max(tx.floor, rev)
		}
		tx.dead.Delete(key)
		tx.tombs--
	}
}
