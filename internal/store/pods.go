package store

import "nodelet/internal/model"

// PodsTouched are the pods of which the object, what runs of it or what it was
// allocated differs from an older snapshot; all there are when that is nil.
func (s *Snapshot) PodsTouched(since *Snapshot) map[model.UID]bool {
	if since == nil {
		since = &Snapshot{}
	}
	uids := map[model.UID]bool{}
	for d := range s.Pods.Since(since.Pods) {
		uids[d.Key] = true
	}
	for d := range s.Runtime.Since(since.Runtime) {
		uids[d.Key] = true
	}
	for d := range s.Allocations.Since(since.Allocations) {
		uids[d.Key] = true
	}
	return uids
}
