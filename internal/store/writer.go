package store

// Writer is the write end of one table.
type Writer[K Key, V any] struct {
	store *Store
	table func(*Snapshot) *Table[K, V]
}

func newWriter[K Key, V any](s *Store, table func(*Snapshot) *Table[K, V]) *Writer[K, V] {
	return &Writer[K, V]{store: s, table: table}
}

// Commit lets change edit the table and publishes the result as one new
// revision; without a change there is none. change must not block.
func (w *Writer[K, V]) Commit(change func(*Tx[K, V])) Revision {
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	old := w.store.current.Load()
	tx := begin(*w.table(old), old.Revision+1)
	change(tx)
	if !tx.dirty {
		return old.Revision
	}
	next := *old
	next.Revision++
	*w.table(&next) = tx.commit()
	w.store.publish(old, &next)
	return next.Revision
}

// Set commits one value.
func (w *Writer[K, V]) Set(k K, v V) Revision {
	return w.Commit(func(tx *Tx[K, V]) { tx.Set(k, v) })
}

// Delete commits the removal of one key.
func (w *Writer[K, V]) Delete(k K) Revision {
	return w.Commit(func(tx *Tx[K, V]) { tx.Delete(k) })
}

// Replace commits a full list: the table then holds exactly these values and is synced.
func (w *Writer[K, V]) Replace(values map[K]V) Revision {
	return w.Commit(func(tx *Tx[K, V]) { tx.Replace(values) })
}
