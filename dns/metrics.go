package dns

import (
	"sync"
	"sync/atomic"

	"nodelet/dns/wire"
)

// rcodes are the response codes that are told apart; the rest counts with the last.
const rcodes = 6

// stats are the counters of one worker. Each worker has its own, so that
// counting is one uncontended add.
type stats struct {
	queries   [len(typeNames)]atomic.Uint64
	replies   [rcodes]atomic.Uint64
	dropped   atomic.Uint64
	truncated atomic.Uint64
	cluster   atomic.Uint64
	hits      atomic.Uint64
	misses    atomic.Uint64
	_         [64]byte // keeps the next worker's counters off this cache line
}

var typeNames = [...]string{"A", "AAAA", "SRV", "PTR", "other"}

func typeIndex(t wire.Type) int {
	switch t {
	case wire.TypeA:
		return 0
	case wire.TypeAAAA:
		return 1
	case wire.TypeSRV:
		return 2
	case wire.TypePTR:
		return 3
	}
	return 4
}

// countQuery is the first step of the chain.
func countQuery(r *request) ([]byte, verdict) {
	r.stats.queries[typeIndex(r.q.Type)].Add(1)
	return nil, next
}

// sent counts a reply and gives it back.
func (s *stats) sent(msg []byte) []byte {
	s.replies[min(int(msg[3]&0xF), rcodes-1)].Add(1)
	if msg[2]&byte(wire.FlagTC>>8) != 0 {
		s.truncated.Add(1)
	}
	return msg
}

// collector knows the counters of all workers.
type collector struct {
	mu  sync.Mutex
	all []*stats
}

func (c *collector) add() *stats {
	s := &stats{}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, s)
	return s
}

// Stats is the sum of what was counted since the start.
type Stats struct {
	// Queries by type and Replies by response code.
	Queries map[string]uint64
	Replies map[string]uint64
	// Dropped packets were no queries; Truncated replies had TC set.
	Dropped, Truncated uint64
	// Cluster is the number of replies out of the zone.
	Cluster                uint64
	CacheHits, CacheMisses uint64
	CacheEntries           int
	// Forwards is the number of questions asked of resolvers, ForwardErrors of those that none answered.
	Forwards, ForwardErrors uint64
	Services                int
	Revision                uint64
}

// Stats gives the counters for metrics and for the CLI.
func (d *DNS) Stats() Stats {
	z := d.zone.Load()
	out := Stats{
		Queries: map[string]uint64{}, Replies: map[string]uint64{},
		Services: z.Len(), Revision: uint64(z.Revision()),
		CacheEntries: d.cache.len(),
		Forwards:     d.forward.asked.Load(), ForwardErrors: d.forward.failed.Load(),
	}
	d.stats.mu.Lock()
	defer d.stats.mu.Unlock()
	for _, s := range d.stats.all {
		for i := range s.queries {
			out.Queries[typeNames[i]] += s.queries[i].Load()
		}
		for i := range s.replies {
			out.Replies[wire.Rcode(i).String()] += s.replies[i].Load()
		}
		out.Dropped += s.dropped.Load()
		out.Truncated += s.truncated.Load()
		out.Cluster += s.cluster.Load()
		out.CacheHits += s.hits.Load()
		out.CacheMisses += s.misses.Load()
	}
	return out
}
