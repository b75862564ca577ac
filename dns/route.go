package dns

import (
	"cmp"
	"crypto/x509"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"nodelet/dns/corefile"
	"nodelet/dns/wire"
)

// upstreams knows every resolver that was ever asked by this process, so that
// a new configuration does not forget which of them are down.
type upstreams struct {
	own   []netip.Addr
	roots *x509.CertPool
	log   *slog.Logger

	mu  sync.Mutex
	all map[corefile.Upstream]*upstream
}

func newUpstreams(c Config, log *slog.Logger) *upstreams {
	return &upstreams{own: c.ListenAddrs, roots: c.TLSRoots, log: log, all: map[corefile.Upstream]*upstream{}}
}

// get gives the upstream, nil when it is this server itself.
func (k *upstreams) get(c corefile.Upstream) *upstream {
	if slices.Contains(k.own, c.Addr.Addr()) {
		k.log.Warn("skip resolver: it is this server itself, queries would go round in a loop", "resolver", c)
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	u := k.all[c]
	if u == nil {
		u = newUpstream(c)
		u.roots = k.roots
		k.all[c] = u
	}
	return u
}

// keep forgets upstreams that nobody uses any more.
func (k *upstreams) keep(used map[*upstream]bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for c, u := range k.all {
		if !used[u] {
			u.idle.close()
			delete(k.all, c)
		}
	}
}

func (k *upstreams) has(u *upstream) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.all[u.c] == u
}

// stats gives what is known about each resolver.
func (k *upstreams) stats() []UpstreamStats {
	var all []UpstreamStats
	for _, u := range k.list() {
		s := UpstreamStats{To: u.c.String(), Durations: map[string]Durations{}, Failures: u.failures.Load(), ProbeFailures: u.probeFailures.Load()}
		for i := range u.durations {
			var d Durations
			if d.add(&u.durations[i]); d.Count > 0 {
				s.Durations[wire.Rcode(i).String()] = d
			}
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b UpstreamStats) int { return cmp.Compare(a.To, b.To) })
	return all
}

// list gives all, in no order.
func (k *upstreams) list() []*upstream {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := make([]*upstream, 0, len(k.all))
	for _, u := range k.all {
		out = append(out, u)
	}
	return out
}

// route is who answers names of a zone, and how they are chosen.
type route struct {
	zone   suffix
	except []suffix
	policy corefile.Policy
	tcp    bool
	// fixed are the upstreams, or host knows them.
	fixed []*upstream
	host  *resolvers
	// most bounds the questions on their way, 0 for no bound of its own.
	most int64

	flying atomic.Int64
	turn   atomic.Uint32
}

// suffix is a domain in wire form, and its number of labels.
type suffix struct {
	name   string
	labels int
}

// of reports whether the name of q is this domain or below it.
func (s suffix) of(q *wire.Query) bool {
	return q.Labels() >= s.labels && string(q.From(q.Labels()-s.labels)) == s.name
}

func (r *route) matches(q *wire.Query) bool {
	return r.zone.of(q) && !slices.ContainsFunc(r.except, func(s suffix) bool { return s.of(q) })
}

// list is the upstreams as they are configured.
func (r *route) list(now time.Time) []*upstream {
	if r.host != nil {
		return r.host.list(now)
	}
	return r.fixed
}

// order gives the upstreams in the order in which one question asks them: by
// the policy, those that are down last, those that lead back here not at all.
func (r *route) order(now time.Time) []*upstream {
	list := slices.Clone(r.list(now))
	switch {
	case len(list) < 2 || r.policy == corefile.Sequential:
	case r.policy == corefile.Random:
		rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	default:
		n := int(r.turn.Add(1)-1) % len(list)
		list = append(list[n:], list[:n]...)
	}
	var up, down []*upstream
	for _, u := range list {
		switch {
		case u.looping.Load():
		case u.usable(now):
			up = append(up, u)
		default:
			down = append(down, u)
		}
	}
	return append(up, down...)
}
