package server

import (
	"sync"
	"time"
)

// maxCached bounds the answers that are remembered: far more than a cluster has users of this API.
const maxCached = 4096

// cache remembers answers for a time.
type cache[K comparable, V any] struct {
	mu    sync.Mutex
	known map[K]cached[V]
}

type cached[V any] struct {
	value V
	until time.Time
}

func newCache[K comparable, V any]() *cache[K, V] {
	return &cache[K, V]{known: map[K]cached[V]{}}
}

func (c *cache[K, V]) get(key K, now time.Time) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.known[key]
	if !ok || !now.Before(e.until) {
		var none V
		return none, false
	}
	return e.value, true
}

// put remembers an answer. When there are too many, the old ones go, and if none is old any.
func (c *cache[K, V]) put(key K, value V, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.known) >= maxCached {
		now := time.Now()
		for k, e := range c.known {
			if !now.Before(e.until) {
				delete(c.known, k)
			}
		}
		for k := range c.known {
			if len(c.known) < maxCached {
				break
			}
			delete(c.known, k)
		}
	}
	c.known[key] = cached[V]{value: value, until: until}
}
