package volume

import (
	"context"
	"sync"

	"nodelet/internal/model"
)

// locks is one lock for each pod. A pod that holds its lock for ever delays nobody else.
type locks struct {
	mu   sync.Mutex
	held map[model.UID]*lock
}

type lock struct {
	token chan struct{}
	users int
}

// acquire waits for the lock of a pod, or for the end of ctx.
func (l *locks) acquire(ctx context.Context, uid model.UID) (release func(), err error) {
	l.mu.Lock()
	if l.held == nil {
		l.held = map[model.UID]*lock{}
	}
	k := l.held[uid]
	if k == nil {
		k = &lock{token: make(chan struct{}, 1)}
		l.held[uid] = k
	}
	k.users++
	l.mu.Unlock()
	select {
	case k.token <- struct{}{}:
		return func() { <-k.token; l.drop(uid, k) }, nil
	case <-ctx.Done():
		l.drop(uid, k)
		return nil, ctx.Err()
	}
}

func (l *locks) drop(uid model.UID, k *lock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k.users--; k.users == 0 {
		delete(l.held, uid)
	}
}
