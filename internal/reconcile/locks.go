package reconcile

import (
	"cmp"
	"context"
	"slices"
	"sync"
)

// Locks is one lock for each key. A key whose lock is held for ever delays
// nobody who does not ask for that key. The zero value is ready.
type Locks[K cmp.Ordered] struct {
	mu   sync.Mutex
	held map[K]*lock
}

type lock struct {
	token chan struct{}
	users int
}

// Acquire waits for the locks of all keys, or for the end of ctx; then it holds
// none and gives ctx's error. Keys are taken in order, so that two who ask for
// several never wait for each other.
func (l *Locks[K]) Acquire(ctx context.Context, keys ...K) (release func(), err error) {
	sorted := slices.Clone(keys)
	slices.Sort(sorted)
	sorted = slices.Compact(sorted)
	var got []func()
	release = func() {
		for _, f := range slices.Backward(got) {
			f()
		}
	}
	for _, key := range sorted {
		f, err := l.acquire(ctx, key)
		if err != nil {
			release()
			return nil, err
		}
		got = append(got, f)
	}
	return release, nil
}

func (l *Locks[K]) acquire(ctx context.Context, key K) (release func(), err error) {
	l.mu.Lock()
	if l.held == nil {
		l.held = map[K]*lock{}
	}
	k := l.held[key]
	if k == nil {
		k = &lock{token: make(chan struct{}, 1)}
		l.held[key] = k
	}
	k.users++
	l.mu.Unlock()
	select {
	case k.token <- struct{}{}:
		return func() { <-k.token; l.drop(key, k) }, nil
	case <-ctx.Done():
		l.drop(key, k)
		return nil, ctx.Err()
	}
}

func (l *Locks[K]) drop(key K, k *lock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k.users--; k.users == 0 {
		delete(l.held, key)
	}
}
