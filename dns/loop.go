package dns

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"sync"
	"time"

	"nodelet/dns/wire"
)

// loopZone ends the names that find loops. No resolver ever has an answer below
// .invalid (RFC 6761), so nothing but a loop brings one back.
const loopZone = "\x04loop\x07nodelet\x07invalid\x00"

const (
	// loopCheck is how often resolvers are checked for loops, loopRecheck those that have one.
	loopCheck   = 5 * time.Minute
	loopRecheck = 30 * time.Second
	// probeFirst and probeMost are the waits between health checks of a resolver that is down.
	probeFirst = 500 * time.Millisecond
	probeMost  = 5 * time.Second
)

// loops finds resolvers that lead back to this server: each is asked for a name
// that nobody else knows, and if that name is then asked here, it is a loop.
type loops struct {
	mu    sync.Mutex
	names map[string]*upstream
}

// expect makes a name to ask an upstream for.
func (l *loops) expect(u *upstream) []byte {
	random := make([]byte, 12)
	_, _ = rand.Read(random) // never fails, by its documentation
	name := append([]byte{24}, hex.EncodeToString(random)...)
	name = append(name, loopZone...)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.names == nil {
		l.names = map[string]*upstream{}
	}
	l.names[string(name)] = u
	return name
}

func (l *loops) forget(name []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.names, string(name))
}

// seen is the step that notes a name coming back. It is never forwarded.
func (l *loops) seen(r *request) ([]byte, verdict) {
	if r.q.Labels() != 4 || string(r.q.From(1)) != loopZone {
		return nil, next
	}
	l.mu.Lock()
	u := l.names[string(r.q.Name())]
	l.mu.Unlock()
	if u != nil {
		u.looping.Store(true)
	}
	return wire.Status(r.out, &r.q, wire.Refused), done
}

// watchLoops checks the resolvers at the start, when they change, and now and then.
func (f *forwarder) watchLoops(ctx context.Context) {
	ticker := time.NewTicker(loopRecheck)
	defer ticker.Stop()
	checked := map[*upstream]time.Time{}
	for {
		now := time.Now()
		f.host.list(now)
		current := f.known.list()
		for _, u := range current {
			if last, ok := checked[u]; ok && !u.looping.Load() && now.Sub(last) < loopCheck {
				continue
			}
			checked[u] = now
			f.checkLoop(ctx, u)
		}
		if len(checked) > len(current) {
			clear(checked)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-f.reloaded:
		}
	}
}

// checkLoop asks one resolver for a name that only a loop brings back.
func (f *forwarder) checkLoop(ctx context.Context, u *upstream) {
	was := u.looping.Swap(false)
	name := f.loops.expect(u)
	defer f.loops.forget(name)
	var q wire.Query
	q.Set(name, wire.TypeTXT)
	question, err := newQuestion(&q)
	if err != nil {
		return
	}
	wait, cancel := context.WithTimeout(ctx, f.limits.Timeout)
	defer cancel()
	_, err = u.ask(wait, question)
	switch is := u.looping.Load(); {
	case is && !was:
		f.log.Error("resolver leads back to this server and is not asked: give others with --upstream or --resolv-conf", "resolver", u.c)
	case was && !is && err == nil:
		f.log.Info("resolver does not lead back here any more", "resolver", u.c)
	case was && err != nil:
		u.looping.Store(true) // no word is no proof
	}
}

// probe asks a resolver that is down, until it answers or nobody uses it.
func (f *forwarder) probe(ctx context.Context, u *upstream, why error) {
	if !u.probing.CompareAndSwap(false, true) {
		return
	}
	f.log.Warn("resolver does not answer, others are asked first", "resolver", u.c, "err", why)
	f.running.Go(func() {
		defer u.probing.Store(false)
		var q wire.Query
		q.Set([]byte{0}, wire.TypeNS)
		for wait := probeFirst; ; wait = min(wait*2, probeMost) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
			if !f.known.has(u) {
				return
			}
			question, err := newQuestion(&q)
			if err != nil {
				return
			}
			limited, cancel := context.WithTimeout(ctx, f.limits.Timeout)
			_, err = u.ask(limited, question)
			cancel()
			u.probes.Add(1)
			if err == nil {
				u.note(true, time.Now())
				f.log.Info("resolver answers again", "resolver", u.c)
				return
			}
			u.probeFailures.Add(1)
		}
	})
}
