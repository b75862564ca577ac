package dns

import (
	"encoding/binary"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"nodelet/dns/corefile"
	"nodelet/dns/wire"
)

// message is an answer from a resolver, ready to be sent to whoever asked: the
// records as they follow the question, with pointers that fit it.
type message struct {
	flags   uint16 // AA and AD
	rcode   wire.Rcode
	counts  wire.Counts
	records []byte
	stored  time.Time
	expires time.Time
	// gone is when it may not even be given for want of a better one.
	gone time.Time
	// Past refreshAt it is asked for again, once, if it was given refreshHits times.
	refreshAt   time.Time
	refreshHits uint32
	hits        atomic.Uint32
	refreshing  atomic.Bool
	// stale: the TTLs are all staleTTL.
	stale bool
	from  corefile.Upstream
}

const (
	// staleTTL is what clients are told of an answer that is too old (RFC 8767),
	// staleRetry after what time the resolvers are tried again.
	staleTTL   = 30
	staleRetry = 5 * time.Second
)

// again is the message as it is given for want of a better one.
func (m *message) again(now time.Time) *message {
	return &message{
		flags: m.flags, rcode: m.rcode, counts: m.counts, records: m.records, from: m.from,
		stored: now, expires: now.Add(staleRetry), gone: m.gone, stale: true,
	}
}

// wanted reports, once, that it is time to ask again.
func (m *message) wanted(now time.Time) bool {
	return m.refreshHits > 0 && m.hits.Add(1) >= m.refreshHits && now.After(m.refreshAt) && m.refreshing.CompareAndSwap(false, true)
}

// kind is what CoreDNS's metrics call the kinds of cached answers.
type kind uint8

const (
	kindSuccess kind = iota
	kindDenial
)

// String is the kind in lower case.
func (k kind) String() string { return [...]string{"success", "denial"}[k] }

func (m *message) kind() kind {
	if m.rcode == wire.Success && m.counts.Answer > 0 {
		return kindSuccess
	}
	return kindDenial
}

// fit is what a reply is fitted to: the client's size, and the time for its TTLs.
type fit struct {
	limit int
	now   time.Time
}

// append writes the reply to q with the time it has been kept taken off each TTL.
func (m *message) append(dst []byte, q *wire.Query, f fit) []byte {
	msg := wire.Begin(dst, q, m.flags, m.rcode)
	msg = append(msg, m.records...)
	if m.stale {
		forTTL(msg, q.End(), m.counts, func(uint32) uint32 { return staleTTL })
	} else if age := uint32(max(f.now.Sub(m.stored)/time.Second, 0)); age > 0 {
		forTTL(msg, q.End(), m.counts, func(ttl uint32) uint32 { return ttl - min(ttl, age) })
	}
	return wire.Finish(msg, q, m.counts, f.limit)
}

// forTTL maps the TTL of each record from off on.
func forTTL(msg []byte, off int, n wire.Counts, f func(uint32) uint32) {
	for range int(n.Answer) + int(n.Authority) + int(n.Extra) {
		fixed, next, ok := wire.SkipRR(msg, off)
		if !ok {
			return
		}
		ttl := msg[fixed+4 : fixed+8]
		binary.BigEndian.PutUint32(ttl, f(binary.BigEndian.Uint32(ttl)))
		off = next
	}
}

// maxKey is the longest cache key: type, flags, name.
const maxKey = 3 + wire.MaxName

// appendKey appends what tells one question from another.
func appendKey(dst []byte, q *wire.Query) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(q.Type))
	flags := byte(0)
	if q.DO {
		flags |= 1
	}
	if q.Flags&wire.FlagCD != 0 {
		flags |= 2
	}
	return append(append(dst, flags), q.Name()...)
}

// cacheShards keeps workers out of each other's way.
const cacheShards = 16

// cache holds answers of resolvers until their TTL ends or room is needed.
type cache struct {
	seed   maphash.Seed
	shards [cacheShards]cacheShard
}

type cacheShard struct {
	mu       sync.Mutex
	entries  map[string]*cacheEntry
	oldest   cacheEntry // ring: next is the least, prev the most recently used
	bytes    int
	denials  int // entries that say that there is nothing
	maxBytes int
	maxCount int
}

type cacheEntry struct {
	key        string
	m          *message
	prev, next *cacheEntry
}

// entryOverhead is what an entry costs beside its key and records.
const entryOverhead = 250

func (e *cacheEntry) size() int { return entryOverhead + len(e.key) + len(e.m.records) }

func newCache(l Limits) *cache {
	c := &cache{seed: maphash.MakeSeed()}
	for i := range c.shards {
		s := &c.shards[i]
		s.entries = map[string]*cacheEntry{}
		s.maxBytes, s.maxCount = l.CacheBytes/cacheShards, l.CacheEntries/cacheShards
		s.oldest.next, s.oldest.prev = &s.oldest, &s.oldest
	}
	return c
}

func (c *cache) shard(key []byte) *cacheShard {
	return &c.shards[maphash.Bytes(c.seed, key)%cacheShards]
}

// get gives what is kept, also when it has expired but is not gone.
func (c *cache) get(key []byte, now time.Time) *message {
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[string(key)]
	if e == nil {
		return nil
	}
	if !now.Before(e.m.gone) {
		s.remove(e)
		return nil
	}
	s.unlink(e)
	s.link(e)
	return e.m
}

func (c *cache) put(key []byte, m *message) {
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.entries[string(key)]; old != nil {
		s.remove(old)
	}
	e := &cacheEntry{key: string(key), m: m}
	if e.size() > s.maxBytes || s.maxCount == 0 {
		return
	}
	s.entries[e.key] = e
	s.link(e)
	s.bytes += e.size()
	s.denials += int(m.kind())
	for s.bytes > s.maxBytes || len(s.entries) > s.maxCount {
		s.remove(s.oldest.next)
	}
}

// entries counts by kind.
func (c *cache) entries() map[string]uint64 {
	var n [2]int
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		n[kindSuccess] += len(s.entries) - s.denials
		n[kindDenial] += s.denials
		s.mu.Unlock()
	}
	return map[string]uint64{kindSuccess.String(): uint64(n[kindSuccess]), kindDenial.String(): uint64(n[kindDenial])}
}

func (s *cacheShard) remove(e *cacheEntry) {
	delete(s.entries, e.key)
	s.unlink(e)
	s.bytes -= e.size()
	s.denials -= int(e.m.kind())
}

func (s *cacheShard) unlink(e *cacheEntry) {
	e.prev.next, e.next.prev = e.next, e.prev
}

func (s *cacheShard) link(e *cacheEntry) {
	e.prev, e.next = s.oldest.prev, &s.oldest
	e.prev.next, s.oldest.prev = e, e
}

// answerCached answers outside names that were asked before.
func (d *DNS) answerCached(r *request) ([]byte, verdict) {
	if !r.block.cached {
		return nil, next
	}
	var buf [maxKey]byte
	m := r.program.cache.get(appendKey(buf[:0], r.asked()), r.now)
	if m == nil {
		r.stats.misses.Add(1)
		return nil, next
	}
	if !r.now.Before(m.expires) {
		r.stats.misses.Add(1)
		r.stale = m
		return nil, next
	}
	r.stats.hits[m.kind()].Add(1)
	if m.stale {
		d.forward.staled.Add(1)
	} else if m.wanted(r.now) {
		d.forward.refresh(r)
	}
	if r.chase != nil {
		return r.chase.join(&r.q, m, fit{r.limit, r.now}), done
	}
	return m.append(r.out, &r.q, fit{r.limit, r.now}), done
}
