package dns

import (
	"net/netip"
	"time"

	"nodelet/dns/wire"
)

// request is one query on its way through the chain. The server reuses it.
type request struct {
	q wire.Query
	// out is where the reply is written: empty, with room for the largest message.
	out   []byte
	limit int
	// turn grows with each query of a worker; it rotates lists of addresses.
	turn   uint32
	tcp    bool
	client netip.AddrPort
	now    time.Time
	// late is where the reply goes when it is not there at once.
	late replier
	// scope is what the name belongs to, once known.
	scope scope
	// chase is set when a CNAME leads out of the cluster.
	chase *chase
	stats *stats
	// program is the configuration at the time of the query, block the part of it for this name.
	program *program
	block   *block
	// completing: this is one name of a search path that is walked here.
	completing bool
	// stale is an answer that was kept too long.
	stale *message
}

// replier takes a reply that comes later, from another goroutine; nil when
// there will be none.
type replier interface {
	reply(client netip.AddrPort, msg []byte)
}

// verdict is what a step says of a request.
type verdict uint8

const (
	next    verdict = iota // not for this step
	done                   // the reply is written
	pending                // the reply comes later
	dropped                // there is no reply
)

// step is one link of the chain. With done it gives the reply, which is in r.out.
type step func(r *request) ([]byte, verdict)

// newChain is the way of a query. Cluster names go before the cache: they are
// never cached, and most queries are for them.
func (d *DNS) newChain() []step {
	return []step{
		refuse,
		d.answerLocal,
		d.complete,
		d.answerCluster,
		d.forward.loops.seen,
		d.answerCached,
		d.forward.limit,
		d.forward.start,
	}
}

// handle gives the reply to one packet, with done; else there is none, or none now.
// A packet that meets a bug is dropped: any pod can send it, and again and again.
func (d *DNS) handle(r *request, packet []byte) (msg []byte, v verdict) {
	defer func() {
		if p := recover(); p != nil {
			d.panics.note(d.log, p)
			msg, v = nil, dropped
		}
	}()
	r.chase, r.scope = nil, outside
	switch v := r.q.Parse(packet); v {
	case wire.Accept:
	case wire.Drop:
		r.stats.dropped.Add(1)
		return nil, dropped
	default:
		return r.stats.replied(outside, wire.Reject(r.out, &r.q, v)), done
	}
	r.limit = r.q.Limit(r.tcp)
	r.program, r.stale = d.program.Load(), nil
	if r.block = r.program.of(&r.q); r.block == nil {
		return r.stats.replied(outside, wire.Status(r.out, &r.q, wire.Refused)), done
	}
	msg, v = d.answer(r)
	r.stats.queries[r.scope][typeIndex(r.q.Type)].Add(1)
	if v == done {
		r.stats.replied(r.scope, msg)
	}
	if every := d.c.LogEvery; every > 0 && d.asked.Add(1)%every == 0 {
		d.logQuery(r, msg, v)
	}
	return msg, v
}

// logQuery writes one line on a query: who asked, what, and what came of it.
func (d *DNS) logQuery(r *request, msg []byte, v verdict) {
	answer := "later"
	if v == done {
		answer = wire.Rcode(msg[3] & 0xF).String()
	}
	d.log.Info("query", "client", r.client, "name", textOf(&r.q), "type", r.q.Type, "tcp", r.tcp, "answer", answer)
}

// walk goes along the chain until a step has an answer.
func (d *DNS) walk(r *request) ([]byte, verdict) {
	for _, s := range d.chain {
		if msg, v := s(r); v != next {
			return msg, v
		}
	}
	return wire.Status(r.out, &r.q, wire.ServFail), done
}

// refuse ends what is never answered: classes but IN, and zone transfers. ANY is
// for TCP only (RFC 8482): over UDP, where senders can be forged, it would make
// of a small query the largest reply there is.
func refuse(r *request) ([]byte, verdict) {
	if r.q.Type == wire.TypeANY && !r.tcp {
		msg := wire.Status(r.out, &r.q, wire.Success)
		msg[2] |= byte(wire.FlagTC >> 8)
		return msg, done
	}
	if r.q.Class == wire.ClassIN && r.q.Type != wire.TypeAXFR && r.q.Type != wire.TypeIXFR && r.q.Type != wire.TypeOPT {
		return nil, next
	}
	return wire.Status(r.out, &r.q, wire.Refused), done
}
