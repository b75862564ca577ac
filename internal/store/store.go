package store

import (
	"maps"
	"sync"
	"sync/atomic"
)

// Store holds the current snapshot.
type Store struct {
	mu      sync.Mutex // serialises commits; readers never take it
	current atomic.Pointer[Snapshot]
}

// New makes an empty store at revision 1 and the write ends of its tables.
func New() (*Store, *Writers) {
	s := &Store{}
	s.current.Store(empty())
	return s, writers(s)
}

// Snapshot gives the current picture.
func (s *Store) Snapshot() *Snapshot { return s.current.Load() }

// SetApplied notes that the kernel objects of a feature now hold revision r.
// It wakes readers without making a new revision. An older revision than the
// one noted is ignored.
func (s *Store) SetApplied(f Feature, r Revision) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.current.Load()
	if r <= old.Applied[f] {
		return
	}
	next := *old
	next.Applied = maps.Clone(old.Applied)
	next.Applied[f] = r
	s.publish(old, &next)
}

// publish makes next the current snapshot and wakes those who wait on old.
func (s *Store) publish(old, next *Snapshot) {
	next.changed = make(chan struct{})
	s.current.Store(next)
	close(old.changed)
}
