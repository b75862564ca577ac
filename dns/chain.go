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
	// chase is set when a CNAME leads out of the cluster.
	chase *chase
	stats *stats
}

// replier takes a reply that comes later, from another goroutine.
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
		countQuery,
		refuse,
		d.answerCluster,
		d.answerCached,
		d.forward.limit,
		d.forward.start,
	}
}

// handle gives the reply to one packet, with done; else there is none, or none now.
func (d *DNS) handle(r *request, packet []byte) ([]byte, verdict) {
	r.chase = nil
	switch v := r.q.Parse(packet); v {
	case wire.Accept:
	case wire.Drop:
		r.stats.dropped.Add(1)
		return nil, dropped
	default:
		return r.stats.sent(wire.Reject(r.out, &r.q, v)), done
	}
	r.limit = r.q.Limit(r.tcp)
	for _, s := range d.chain {
		switch msg, v := s(r); v {
		case next:
		case done:
			return r.stats.sent(msg), done
		default:
			return nil, v
		}
	}
	return r.stats.sent(wire.Status(r.out, &r.q, wire.ServFail)), done
}

// refuse ends what is never answered: classes but IN, and zone transfers.
func refuse(r *request) ([]byte, verdict) {
	if r.q.Class == wire.ClassIN && r.q.Type != wire.TypeAXFR && r.q.Type != wire.TypeIXFR && r.q.Type != wire.TypeOPT {
		return nil, next
	}
	return wire.Status(r.out, &r.q, wire.Refused), done
}
