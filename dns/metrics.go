package dns

import (
	"log/slog"
	"math/bits"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"nodelet/dns/wire"
)

// rcodes are the response codes that are told apart; the rest counts with the last.
const rcodes = 6

// types are the query types that are told apart; the last stands for all others.
var types = [...]string{"A", "AAAA", "SRV", "PTR", "TXT", "CNAME", "MX", "NS", "SOA", "HTTPS", "other"}

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
	case wire.TypeTXT:
		return 4
	case wire.TypeCNAME:
		return 5
	case wire.TypeMX:
		return 6
	case wire.TypeNS:
		return 7
	case wire.TypeSOA:
		return 8
	case wire.TypeHTTPS:
		return 9
	}
	return len(types) - 1
}

// scope tells names of the cluster from all others.
type scope uint8

const (
	outside scope = iota
	cluster
	scopes
)

// firstBucket is the bound of the first bucket of durations; each next one is twice it.
const firstBucket = 250 * time.Microsecond

// histogram counts durations without a lock.
type histogram struct {
	buckets [17]atomic.Uint64 // the last has no bound
	sum     atomic.Uint64     // nanoseconds
}

func (h *histogram) observe(d time.Duration, n uint64) {
	i := min(bits.Len64(uint64(max(d-1, 0)/firstBucket)), len(h.buckets)-1)
	h.buckets[i].Add(n)
	h.sum.Add(uint64(d) * n)
}

// stats are the counters of one worker. Each worker has its own, so that
// counting is one uncontended add.
type stats struct {
	proto, family string

	queries   [scopes][len(types)]atomic.Uint64
	replies   [scopes][rcodes]atomic.Uint64
	durations [scopes]histogram
	hits      [2]atomic.Uint64 // of the cache, by kind
	misses    atomic.Uint64
	dropped   atomic.Uint64
	truncated atomic.Uint64
	_         [64]byte // keeps the next worker's counters off this cache line
}

// replied counts a reply and gives it back.
func (s *stats) replied(sc scope, msg []byte) []byte {
	s.replies[sc][min(int(msg[3]&0xF), rcodes-1)].Add(1)
	if msg[2]&byte(wire.FlagTC>>8) != 0 {
		s.truncated.Add(1)
	}
	return msg
}

// panics counts queries that met a bug.
type panics struct{ count atomic.Uint64 }

// note logs the first, second, fourth... with its stack: the same packet may come a million times.
func (c *panics) note(log *slog.Logger, what any) {
	if n := c.count.Add(1); n&(n-1) == 0 {
		log.Error("query met a bug and was dropped, please report it", "panic", what, "times", n, "stack", string(debug.Stack()))
	}
}

// collector knows the counters of all workers.
type collector struct {
	mu  sync.Mutex
	all []*stats
}

// worker gives counters to a worker that serves that address.
func (c *collector) worker(proto string, local netip.Addr) *stats {
	s := &stats{proto: proto, family: "1"}
	if local.Unmap().Is6() {
		s.family = "2"
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, s)
	return s
}

// Stats is what was counted since the start, in the terms of CoreDNS's metrics.
type Stats struct {
	// Server is the address as "dns://10.96.0.10:53".
	Server    string
	Requests  []RequestCount
	Responses []ResponseCount
	// Durations by zone: the cluster domain, and "." for all other names.
	Durations map[string]Durations
	// CacheEntries and CacheHits by kind: success and denial.
	CacheEntries, CacheHits map[string]uint64
	CacheMisses             uint64
	// Prefetched answers were asked for again before they ran out; Stale ones were given after that.
	Prefetched, Stale uint64
	// Rejected queries were beyond the bounds of those that wait for resolvers.
	Rejected uint64
	// Programmed is how long after their cause changes of endpoints are answered by.
	Programmed Durations
	// SetupErrors by what could not be had on the host: interface_add (addresses), iptables (rules).
	SetupErrors map[string]uint64
	// Dropped packets were no queries; Truncated replies had TC set.
	Dropped, Truncated uint64
	// Forwards are questions asked of resolvers, ForwardErrors those that none answered.
	Forwards, ForwardErrors uint64
	Upstreams               []UpstreamStats
	// Panics are queries that met a bug.
	Panics uint64
	// Early are zones that were used before they were routed.
	Early uint64
	// Kernel are answers that the kernel gave, which Requests and Responses count as well.
	Kernel uint64
	// Services in the zone, and the zone's revision.
	Services int
	Revision uint64
}

// RequestCount counts queries; Family is 1 for IPv4 and 2 for IPv6.
type RequestCount struct {
	Zone, Proto, Family, Type string
	Count                     uint64
}

// ResponseCount counts replies.
type ResponseCount struct {
	Zone, RCode string
	Count       uint64
}

// Durations is a histogram: Buckets maps a bound in seconds to the number of observations up to it.
type Durations struct {
	Buckets map[float64]uint64
	Count   uint64
	// Sum is in seconds.
	Sum float64
}

// UpstreamStats is what was asked of one resolver.
type UpstreamStats struct {
	To string
	// Durations by response code.
	Durations map[string]Durations
	Failures  uint64
	// ProbeFailures are health checks of a resolver that is down that had no answer.
	ProbeFailures uint64
}

func (d *Durations) add(h *histogram) {
	if d.Buckets == nil {
		d.Buckets = map[float64]uint64{}
	}
	var n uint64
	for i := range h.buckets {
		n += h.buckets[i].Load()
		if i < len(h.buckets)-1 {
			d.Buckets[(firstBucket << i).Seconds()] += n
		}
	}
	d.Count += n
	d.Sum += time.Duration(h.sum.Load()).Seconds()
}

// Stats gives the counters for metrics and for the CLI.
func (d *DNS) Stats() Stats {
	z := d.zone.Load()
	out := Stats{
		Server:    "dns://" + netip.AddrPortFrom(d.c.ListenAddrs[0], d.c.Port).String(),
		Durations: map[string]Durations{}, CacheHits: map[string]uint64{}, CacheEntries: d.program.Load().cache.entries(),
		Forwards: d.forward.asked.Load(), ForwardErrors: d.forward.failed.Load(),
		Upstreams: d.forward.known.stats(), Panics: d.panics.count.Load(), Early: d.order.early.Load(),
		Services: z.Len(), Revision: uint64(z.Revision()),
		Prefetched: d.forward.refreshed.Load(), Stale: d.forward.staled.Load(), Rejected: d.forward.rejected.Load(),
		SetupErrors: map[string]uint64{"interface_add": d.setupErrors.addrs.Load(), "iptables": d.setupErrors.rules.Load()},
	}
	out.Programmed.add(&d.programmed)
	names := [scopes]string{outside: ".", cluster: d.c.ClusterDomain + "."}
	d.stats.mu.Lock()
	defer d.stats.mu.Unlock()
	for _, s := range d.stats.all {
		for sc, zone := range names {
			out.addScope(s, scope(sc), zone)
		}
		out.CacheHits[kindSuccess.String()] += s.hits[kindSuccess].Load()
		out.CacheHits[kindDenial.String()] += s.hits[kindDenial].Load()
		out.CacheMisses += s.misses.Load()
		out.Dropped += s.dropped.Load()
		out.Truncated += s.truncated.Load()
	}
	if d.kernel != nil {
		out.addKernel(d.kernel.xdp.Counts(), names[cluster])
	}
	return out
}

func (out *Stats) addScope(s *stats, sc scope, zone string) {
	for i := range s.queries[sc] {
		if n := s.queries[sc][i].Load(); n > 0 {
			out.addRequests(RequestCount{Zone: zone, Proto: s.proto, Family: s.family, Type: types[i], Count: n})
		}
	}
	for i := range s.replies[sc] {
		if n := s.replies[sc][i].Load(); n > 0 {
			out.addResponses(ResponseCount{Zone: zone, RCode: wire.Rcode(i).String(), Count: n})
		}
	}
	h := out.Durations[zone]
	h.add(&s.durations[sc])
	out.Durations[zone] = h
}

// addRequests adds to the entry with the same labels: several workers serve one address.
func (out *Stats) addRequests(c RequestCount) {
	for i := range out.Requests {
		if o := &out.Requests[i]; o.Zone == c.Zone && o.Proto == c.Proto && o.Family == c.Family && o.Type == c.Type {
			o.Count += c.Count
			return
		}
	}
	out.Requests = append(out.Requests, c)
}

func (out *Stats) addResponses(c ResponseCount) {
	for i := range out.Responses {
		if o := &out.Responses[i]; o.Zone == c.Zone && o.RCode == c.RCode {
			o.Count += c.Count
			return
		}
	}
	out.Responses = append(out.Responses, c)
}
