package volume

import (
	"errors"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"nodelet/internal/model"
)

const (
	// refusedQuiet is how long the API server may refuse what a pod needs before
	// anybody hears of it: its authorizer learns some milliseconds later than we
	// do that the pod is on this node.
	refusedQuiet = 5 * time.Second
	// refusedRetry is the wait between two tries meanwhile.
	refusedRetry = 100 * time.Millisecond
)

// refusals knows since when the API server refuses something to a pod.
type refusals struct {
	mu    sync.Mutex
	since map[model.UID]time.Time
}

// young reports whether err is a refusal that may still pass by itself.
func (r *refusals) young(uid model.UID, err error, now time.Time) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || !apierrors.IsForbidden(err) {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.since == nil {
		r.since = map[model.UID]time.Time{}
	}
	first, ok := r.since[uid]
	if !ok {
		r.since[uid], first = now, now
	}
	return now.Sub(first) < refusedQuiet
}

func (r *refusals) forget(uid model.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.since, uid)
}
