package dns

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"nodelet/dns/corefile"
	"nodelet/dns/wire"
)

// maxWaiters bounds the queries that wait for one question.
const maxWaiters = 1000

// failTTL is how long a failure is remembered: long enough that a flood of one
// dead name costs one question a second, short enough that nobody notices.
const failTTL = time.Second

// forwarder asks the resolvers. Each question that is not under way yet gets a
// goroutine, at most Limits.Forwards of them; the same question asked meanwhile waits with it.
type forwarder struct {
	limits Limits
	log    *slog.Logger
	known  *upstreams
	host   *resolvers
	panics *panics
	loops  loops

	// reloaded wakes the check for loops.
	reloaded chan struct{}

	// rejected are questions beyond the bounds of those under way.
	asked, failed, refreshed, staled, rejected atomic.Uint64

	mu      sync.Mutex
	flights map[string]*flight
	clients map[netip.Addr]int // queries that wait
	ctx     context.Context    // of Run; nil before and after
	running sync.WaitGroup
}

// flight is one question under way and who waits for it.
type flight struct {
	key     []byte
	q       wire.Query
	waiters []*waiter
	route   *route
	cache   *cache
	keep    keeping
	// stale is the answer that was kept too long, for want of a better one.
	stale *message
}

// waiter is a query whose reply comes later.
type waiter struct {
	q      wire.Query
	limit  int
	client netip.AddrPort
	late   replier
	chase  *chase
	scope  scope
	began  time.Time
	stats  *stats
}

func newForwarder(c Config, d *DNS) *forwarder {
	known := newUpstreams(c, d.log)
	return &forwarder{
		limits: c.Limits, log: d.log, known: known, host: newResolvers(c, known, d.log), panics: &d.panics,
		flights: map[string]*flight{}, clients: map[netip.Addr]int{}, reloaded: make(chan struct{}, 1),
	}
}

// spawn runs f beside the questions; false when the forwarder is starting or ending.
func (f *forwarder) spawn(run func()) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ctx == nil {
		return false
	}
	f.running.Go(run)
	return true
}

// use forgets resolvers that are not in the new program.
func (f *forwarder) use(p *program) {
	used := map[*upstream]bool{}
	for _, b := range p.blocks {
		for _, r := range b.routes {
			for _, u := range r.list(time.Now()) {
				used[u] = true
			}
		}
	}
	f.known.keep(used)
	select {
	case f.reloaded <- struct{}{}:
	default:
	}
}

// fixed gives the upstreams of a list.
func (f *forwarder) fixed(list []corefile.Upstream) []*upstream {
	var out []*upstream
	for _, c := range list {
		if u := f.known.get(c); u != nil && !slices.Contains(out, u) {
			out = append(out, u)
		}
	}
	return out
}

// run lets questions go out until ctx ends, and then waits for those under way.
func (f *forwarder) run(ctx context.Context) error {
	f.mu.Lock()
	f.ctx = ctx
	f.mu.Unlock()
	f.watchLoops(ctx)
	f.mu.Lock()
	f.ctx = nil
	f.mu.Unlock()
	f.running.Wait()
	for _, u := range f.known.list() {
		u.idle.close()
	}
	return nil
}

// limit refuses what would let one client, or all together, pile up without bound.
func (f *forwarder) limit(r *request) ([]byte, verdict) {
	f.mu.Lock()
	waiting := f.clients[r.client.Addr()]
	f.mu.Unlock()
	if waiting < f.limits.ClientForwards {
		return nil, next
	}
	f.rejected.Add(1)
	return wire.Status(r.out, &r.q, wire.Refused), done
}

// start makes the query wait for its question, which is asked when it is not under way.
func (f *forwarder) start(r *request) ([]byte, verdict) {
	rt := r.block.routeOf(r.asked())
	if rt == nil {
		return wire.Status(r.out, &r.q, wire.Refused), done
	}
	w := &waiter{q: r.q, limit: r.limit, client: r.client, late: r.late, chase: r.chase, scope: r.scope, began: r.now, stats: r.stats}
	fl := &flight{key: appendKey(nil, r.asked()), q: *r.asked(), route: rt, cache: r.program.cache, keep: r.block.keep, stale: r.stale}
	if !r.block.cached {
		fl.cache = nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch f.join(fl, w) {
	case joined:
		f.clients[r.client.Addr()]++
		return nil, pending
	case full:
		f.rejected.Add(1)
		return wire.Status(r.out, &r.q, wire.Refused), done
	}
	return nil, dropped // starting or ending: the client asks again
}

// refresh asks again before an answer that many want has run out.
func (f *forwarder) refresh(r *request) {
	rt := r.block.routeOf(r.asked())
	if rt == nil {
		return
	}
	fl := &flight{key: appendKey(nil, r.asked()), q: *r.asked(), route: rt, cache: r.program.cache, keep: r.block.keep}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.join(fl, nil) == joined {
		f.refreshed.Add(1)
	}
}

// joining says what became of a question.
type joining uint8

const (
	closed joining = iota
	full
	joined
)

// join puts a waiter onto the flight of its question, which begins if there is none. f.mu is held.
func (f *forwarder) join(fl *flight, w *waiter) joining {
	if f.ctx == nil {
		return closed
	}
	if under := f.flights[string(fl.key)]; under != nil {
		if w == nil || len(under.waiters) >= maxWaiters {
			return full
		}
		under.waiters = append(under.waiters, w)
		return joined
	}
	most := fl.route.most
	if len(f.flights) >= f.limits.Forwards || most > 0 && fl.route.flying.Load() >= most {
		return full
	}
	if w != nil {
		fl.waiters = []*waiter{w}
	}
	f.flights[string(fl.key)] = fl
	fl.route.flying.Add(1)
	f.running.Add(1)
	go f.fly(f.ctx, fl)
	return joined
}

// fly asks one question and answers all who wait for it.
func (f *forwarder) fly(ctx context.Context, fl *flight) {
	defer f.running.Done()
	m := f.resolve(ctx, fl)
	ended := ctx.Err() != nil
	if !ended && fl.cache != nil && m.expires.After(m.stored) {
		fl.cache.put(fl.key, m)
	}
	f.mu.Lock()
	delete(f.flights, string(fl.key))
	fl.route.flying.Add(-1)
	for _, w := range fl.waiters {
		a := w.client.Addr()
		if f.clients[a]--; f.clients[a] == 0 {
			delete(f.clients, a)
		}
	}
	f.mu.Unlock()
	now := time.Now()
	for _, w := range fl.waiters {
		if ended {
			// No word is better than a failure: the client asks again, and by then
			// the next daemon answers.
			w.late.reply(w.client, nil)
			continue
		}
		w.stats.durations[w.scope].observe(now.Sub(w.began), 1)
		w.late.reply(w.client, w.stats.replied(w.scope, w.compose(m, now)))
	}
}

func (w *waiter) compose(m *message, now time.Time) []byte {
	if w.chase != nil {
		return w.chase.join(&w.q, m, fit{w.limit, now})
	}
	out := make([]byte, 0, w.q.End()+len(m.records)+wire.OptLen)
	return m.append(out, &w.q, fit{w.limit, now})
}

// maxPatience is how many timeouts a question may cost in all: a client waits 5
// seconds, and a third resolver's answer would come too late for it.
const maxPatience = 2

// resolve asks the resolvers in turn, those that are down last. The answer of
// one that cannot or will not answer counts only when no other has a better one.
// When all fail, an answer that is too old is better than none (RFC 8767).
func (f *forwarder) resolve(ctx context.Context, fl *flight) (answer *message) {
	defer func() {
		if p := recover(); p != nil { // a reply that the library cannot bear
			f.panics.note(f.log, p)
			answer = failure(time.Now())
		}
		if answer.rcode == wire.ServFail && fl.stale != nil {
			answer = fl.stale.again(time.Now())
		}
	}()
	f.asked.Add(1)
	now := time.Now()
	question, err := newQuestion(&fl.q)
	if err != nil {
		f.log.Error("forward", "err", err)
		return failure(now)
	}
	question.stream = fl.route.tcp
	var last *message
	for _, u := range fl.route.order(now) {
		if time.Since(now) >= maxPatience*f.limits.Timeout {
			break
		}
		m, err := f.try(ctx, u, question, fl)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			f.log.Debug("forward", "resolver", u.c, "err", err)
			continue
		}
		if m.rcode != wire.ServFail && m.rcode != wire.Refused {
			return m
		}
		last = m
	}
	if last != nil {
		return last
	}
	f.failed.Add(1)
	return failure(now)
}

// try asks one resolver and notes how it went.
func (f *forwarder) try(ctx context.Context, u *upstream, question *question, fl *flight) (*message, error) {
	wait, cancel := context.WithTimeout(ctx, f.limits.Timeout)
	defer cancel()
	began := time.Now()
	reply, err := u.ask(wait, question)
	now := time.Now()
	if ctx.Err() == nil {
		u.note(err == nil, now)
		if err == nil {
			u.durations[min(reply.Rcode, rcodes-1)].observe(now.Sub(began), 1)
		} else if u.fails.Load() >= failLimit {
			f.probe(ctx, u, err)
		}
	}
	if err != nil {
		return nil, err
	}
	m, err := pack(reply, &fl.q, fl.keep, now)
	if err != nil {
		return nil, errors.Join(errMismatch, err)
	}
	m.from = u.c
	return m, nil
}

// failure is the answer when there is none.
func failure(now time.Time) *message {
	return &message{rcode: wire.ServFail, stored: now, expires: now.Add(failTTL)}
}
