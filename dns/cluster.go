package dns

import (
	"slices"

	"nodelet/dns/wire"
	"nodelet/dns/zone"
)

// chase is a reply that begins with CNAMEs of the zone and goes on outside.
type chase struct {
	// head is a whole reply with the CNAMEs only.
	head []byte
	// target is the question that is left.
	target wire.Query
}

// answerCluster answers names of the cluster domain and reverse names of its addresses.
func (d *DNS) answerCluster(r *request) ([]byte, verdict) {
	if !r.block.cluster || r.q.Type == wire.TypePTR && !r.block.reverse {
		return nil, next
	}
	a := d.zone.Load().Answer(r.out, &r.q, zone.Options{Limit: r.limit, Turn: r.turn})
	switch a.Outcome {
	case zone.Answered:
		r.scope = cluster
		return a.Msg, done
	case zone.Chase:
		r.scope = cluster
		head := wire.Finish(a.Msg, &r.q, wire.Counts{Answer: a.CNAMEs}, wire.MaxTCP)
		r.chase = &chase{head: slices.Clone(head)}
		r.chase.target.Set(a.Target, r.q.Type)
		r.chase.target.Flags |= r.q.Flags & wire.FlagCD
	}
	return nil, next
}

// asked is the question for the cache and for resolvers.
func (r *request) asked() *wire.Query {
	if r.chase != nil {
		return &r.chase.target
	}
	return &r.q
}
