package store

import (
	"maps"
	"sync"
	"sync/atomic"

	"nodelet/internal/model"
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

// NewPacked is New for a daemon that reads Services and EndpointSlices one by
// one, when they change: these tables, which grow with the cluster, keep them
// packed, a fifth of the size. Reading one makes it anew, some hundred nanoseconds.
func NewPacked() (*Store, *Writers) {
	s, w := New()
	snap := s.Snapshot()
	snap.Services.pack = &packing[model.Key, *model.Service]{model.ParseKey, (*model.Service).Pack, model.UnpackService}
	snap.Slices.pack = &packing[model.Key, *model.Slice]{model.ParseKey, (*model.Slice).Pack, model.UnpackSlice}
	return s, w
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
