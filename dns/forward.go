package dns

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

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
	limits    Limits
	log       *slog.Logger
	cache     *cache
	resolvers *resolvers
	panics    *panics

	asked, failed atomic.Uint64

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
	return &forwarder{
		limits: c.Limits, log: d.log, cache: d.cache, resolvers: newResolvers(c, d.log), panics: &d.panics,
		flights: map[string]*flight{}, clients: map[netip.Addr]int{},
	}
}

// run lets questions go out until ctx ends, and then waits for those under way.
func (f *forwarder) run(ctx context.Context) error {
	f.mu.Lock()
	f.ctx = ctx
	f.mu.Unlock()
	<-ctx.Done()
	f.mu.Lock()
	f.ctx = nil
	f.mu.Unlock()
	f.running.Wait()
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
	return wire.Status(r.out, &r.q, wire.Refused), done
}

// start makes the query wait for its question, which is asked when it is not under way.
func (f *forwarder) start(r *request) ([]byte, verdict) {
	w := &waiter{q: r.q, limit: r.limit, client: r.client, late: r.late, chase: r.chase, scope: r.scope, began: r.now, stats: r.stats}
	key := appendKey(nil, r.asked())
	f.mu.Lock()
	defer f.mu.Unlock()
	switch fl := f.flights[string(key)]; {
	case f.ctx == nil:
		return nil, dropped // starting or ending: the client asks again
	case fl != nil && len(fl.waiters) < maxWaiters:
		fl.waiters = append(fl.waiters, w)
	case fl != nil || len(f.flights) >= f.limits.Forwards:
		return wire.Status(r.out, &r.q, wire.Refused), done
	default:
		fl = &flight{key: key, q: *r.asked(), waiters: []*waiter{w}}
		f.flights[string(key)] = fl
		f.running.Add(1)
		go f.fly(f.ctx, fl)
	}
	f.clients[r.client.Addr()]++
	return nil, pending
}

// fly asks one question and answers all who wait for it.
func (f *forwarder) fly(ctx context.Context, fl *flight) {
	defer f.running.Done()
	m := f.resolve(ctx, &fl.q)
	ended := ctx.Err() != nil
	if !ended && m.expires.After(m.stored) {
		f.cache.put(fl.key, m)
	}
	f.mu.Lock()
	delete(f.flights, string(fl.key))
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
func (f *forwarder) resolve(ctx context.Context, q *wire.Query) (answer *message) {
	defer func() {
		if p := recover(); p != nil { // a reply that the library cannot bear
			f.panics.note(f.log, p)
			answer = failure(time.Now())
		}
	}()
	f.asked.Add(1)
	now := time.Now()
	list := f.resolvers.list(now)
	if len(list) == 0 {
		f.failed.Add(1)
		return failure(now)
	}
	question, err := newQuestion(q)
	if err != nil {
		f.log.Error("forward", "err", err)
		return failure(now)
	}
	var last *message
	for _, u := range inOrder(list, now) {
		if time.Since(now) >= maxPatience*f.limits.Timeout {
			break
		}
		m, err := f.try(ctx, u, question, q)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			f.log.Debug("forward", "resolver", u.addr, "err", err)
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
func (f *forwarder) try(ctx context.Context, u *upstream, question *question, q *wire.Query) (*message, error) {
	wait, cancel := context.WithTimeout(ctx, f.limits.Timeout)
	defer cancel()
	began := time.Now()
	reply, err := u.ask(wait, question)
	now := time.Now()
	if ctx.Err() == nil {
		u.note(err == nil, now)
		if err == nil {
			u.durations[min(reply.Rcode, rcodes-1)].observe(now.Sub(began), 1)
		}
		if err != nil && u.fails.Load() == failLimit {
			f.log.Warn("resolver does not answer, others are asked first", "resolver", u.addr, "err", err)
		}
	}
	if err != nil {
		return nil, err
	}
	m, err := pack(reply, q, f.limits, now)
	if err != nil {
		return nil, errors.Join(errMismatch, err)
	}
	return m, nil
}

// inOrder gives the resolvers that are up, then the others.
func inOrder(list []*upstream, now time.Time) []*upstream {
	var up, down []*upstream
	for _, u := range list {
		if u.usable(now) {
			up = append(up, u)
		} else {
			down = append(down, u)
		}
	}
	return append(up, down...)
}

// failure is the answer when there is none.
func failure(now time.Time) *message {
	return &message{rcode: wire.ServFail, stored: now, expires: now.Add(failTTL)}
}
