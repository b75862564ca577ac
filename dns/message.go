package dns

import (
	"fmt"
	"strings"
	"time"

	"github.com/miekg/dns"

	"nodelet/dns/wire"
)

// pack turns a resolver's reply to q into a message: without OPT, with TTLs
// no longer than it is kept, and with pointers that fit the question.
func pack(reply *dns.Msg, q *wire.Query, k keeping, now time.Time) (*message, error) {
	name, _, err := dns.UnpackDomainName(q.Name(), 0)
	if err != nil {
		return nil, fmt.Errorf("read the question's name: %w", err)
	}
	reply.Question = []dns.Question{{Name: name, Qtype: uint16(q.Type), Qclass: wire.ClassIN}}
	reply.Extra = without(reply.Extra, dns.TypeOPT, dns.TypeTSIG)
	life := lifetime(reply, k)
	for _, section := range [][]dns.RR{reply.Answer, reply.Ns, reply.Extra} {
		for _, rr := range section {
			h := rr.Header()
			if h.Rdlength == 0 {
				// Legal in updates only. The library reads it, and writes nonsense.
				return nil, fmt.Errorf("pack the reply: record %s has no data", h)
			}
			h.Ttl = min(h.Ttl, uint32(max(k.success, k.denial, minClientTTL)/time.Second))
			if strings.EqualFold(h.Name, name) {
				h.Name = name // a pointer to the question: the asker's case
			}
		}
	}
	reply.Compress = true
	packed, err := reply.Pack()
	if err != nil {
		return nil, fmt.Errorf("pack the reply: %w", err)
	}
	if err := new(dns.Msg).Unpack(packed); err != nil {
		return nil, fmt.Errorf("pack the reply: it cannot be read again: %w", err)
	}
	m := &message{
		rcode:   wire.Rcode(reply.Rcode & 0xF),
		records: packed[q.End():],
		counts:  wire.Counts{Answer: uint16(len(reply.Answer)), Authority: uint16(len(reply.Ns)), Extra: uint16(len(reply.Extra))},
		stored:  now, expires: now.Add(life), gone: now.Add(life),
	}
	if m.rcode == wire.Success || m.rcode == wire.NXDomain {
		m.gone = m.expires.Add(k.stale)
	}
	if n := time.Duration(k.prefetchPart) * life / 100; k.prefetchHits > 0 && life >= minPrefetch {
		m.refreshAt, m.refreshHits = m.expires.Add(-n), k.prefetchHits
	}
	if reply.AuthenticatedData {
		m.flags |= wire.FlagAD
	}
	if len(packed) > wire.MaxTCP-wire.OptLen {
		return nil, fmt.Errorf("pack the reply: %d bytes are too many", len(packed))
	}
	return m, nil
}

const (
	// minClientTTL is the longest TTL a client sees when nothing is kept here.
	minClientTTL = 30 * time.Second
	// minPrefetch is the shortest life that is worth asking again before its end.
	minPrefetch = 5 * time.Second
)

// lifetime is how long a reply is kept (RFC 2181 and 2308): the shortest TTL of
// its answer, for a negative one what its SOA says, and nothing without an SOA.
func lifetime(m *dns.Msg, k keeping) time.Duration {
	switch {
	case m.Rcode == dns.RcodeSuccess && len(m.Answer) > 0:
		ttl := m.Answer[0].Header().Ttl
		for _, rr := range m.Answer {
			ttl = min(ttl, rr.Header().Ttl)
		}
		return min(time.Duration(ttl)*time.Second, k.success)
	case m.Rcode == dns.RcodeSuccess || m.Rcode == dns.RcodeNameError:
		for _, rr := range m.Ns {
			if soa, ok := rr.(*dns.SOA); ok {
				return min(time.Duration(min(soa.Hdr.Ttl, soa.Minttl))*time.Second, k.denial)
			}
		}
		return 0
	}
	return failTTL
}

func without(list []dns.RR, types ...uint16) []dns.RR {
	var kept []dns.RR
	for _, rr := range list {
		t := rr.Header().Rrtype
		drop := false
		for _, x := range types {
			drop = drop || t == x
		}
		if !drop {
			kept = append(kept, rr)
		}
	}
	return kept
}

// join makes the reply to q of the CNAMEs of the zone and of what m says of
// their target. The code is that of the target (RFC 6604).
func (c *chase) join(q *wire.Query, m *message, f fit) []byte {
	fail := func() []byte { return wire.Status(nil, q, wire.ServFail) }
	if m.rcode != wire.Success && m.rcode != wire.NXDomain {
		return fail()
	}
	target := c.target
	target.EDNS = false
	var head, tail dns.Msg
	if head.Unpack(c.head) != nil || tail.Unpack(m.append(nil, &target, fit{wire.MaxTCP, f.now})) != nil {
		return fail()
	}
	head.Answer = append(head.Answer, tail.Answer...)
	head.Ns, head.Extra = tail.Ns, nil
	head.Compress = true
	packed, err := head.Pack()
	if err != nil || len(packed) > wire.MaxTCP-wire.OptLen {
		return fail()
	}
	msg := wire.Begin(nil, q, wire.FlagAA, m.rcode)
	msg = append(msg, packed[q.End():]...)
	n := wire.Counts{Answer: uint16(len(head.Answer)), Authority: uint16(len(head.Ns))}
	return wire.Finish(msg, q, n, f.limit)
}
