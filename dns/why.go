package dns

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"nodelet/dns/wire"
	"nodelet/dns/zone"
	"nodelet/internal/store"
)

// Why explains one answer: what is asked, what of, and where the answer comes from.
type Why struct {
	// Asked is the name and type as given.
	Asked string `json:"asked"`
	Type  string `json:"type"`
	// Revision is that of the zone, Routed that of the rules that route what it names.
	Revision store.Revision `json:"revision"`
	Routed   store.Revision `json:"routed,omitempty"`
	// Config says what configuration is in force.
	Config string `json:"config"`
	// Steps are the names in the order in which a resolver library asks for them, up to the answer.
	Steps []WhyStep `json:"steps"`
}

// WhyStep is one question on the way.
type WhyStep struct {
	Name  string `json:"name"`
	Rcode string `json:"rcode"`
	// Records are the answer's, one line each.
	Records []string `json:"records,omitempty"`
	// From is who knows: the zone, the cache, a resolver, a host entry, a template.
	From string `json:"from"`
	// Objects are the API objects that the answer is made of, with their resource versions.
	Objects []string `json:"objects,omitempty"`
	Took    string   `json:"took"`
}

// Question is what Explain is asked.
type Question struct {
	Name string
	Type uint16
	// Search and Ndots are the client's resolv.conf; Ndots 0 means 1, as in the resolver library.
	Search []string
	Ndots  int
	Client netip.Addr
}

// Names are the names a resolver library tries, in its order (resolv.conf(5)).
func (q Question) Names() []string {
	name := strings.TrimSuffix(q.Name, ".")
	if strings.HasSuffix(q.Name, ".") {
		return []string{name}
	}
	var out []string
	for _, s := range q.Search {
		out = append(out, strings.TrimSuffix(name+"."+s, "."))
	}
	if strings.Count(name, ".") >= max(q.Ndots, 1) {
		return append([]string{name}, out...)
	}
	return append(out, name)
}

// Explain answers as a client would be answered, and says why.
func (d *DNS) Explain(q Question) (*Why, error) {
	w := &Why{
		Asked: q.Name, Type: dns.TypeToString[q.Type], Config: d.program.Load().source,
		Revision: d.zone.Load().Revision(), Routed: d.store.Snapshot().Applied[d.order.after],
	}
	for _, name := range q.Names() {
		s, err := d.explainOne(name, q)
		if err != nil {
			return nil, err
		}
		w.Steps = append(w.Steps, *s)
		if len(s.Records) > 0 {
			break
		}
	}
	return w, nil
}

// explainTimeout is how long one name may take: all resolvers' patience and a little.
const explainTimeout = 10 * time.Second

func (d *DNS) explainOne(name string, q Question) (*WhyStep, error) {
	to, err := suffixOf(strings.ToLower(name))
	if err != nil {
		return nil, err
	}
	late := make(chanReplier, 1)
	r := &request{tcp: true, client: netip.AddrPortFrom(q.Client, 0), late: late, stats: &stats{}, now: time.Now()}
	r.q.Set([]byte(to.name), wire.Type(q.Type))
	packet := wire.Begin(nil, &r.q, 0, wire.Success)
	packet[2] &^= byte(wire.FlagQR >> 8)
	s := &WhyStep{Name: name + ".", From: d.whereFrom(r)}
	msg, v := d.handle(r, packet)
	switch v {
	case pending:
		select {
		case msg = <-late:
		case <-time.After(explainTimeout):
			return nil, fmt.Errorf("resolve %s: no answer within %s", name, explainTimeout)
		}
	case dropped:
		return nil, fmt.Errorf("resolve %s: the server is starting or ending", name)
	}
	s.Took = time.Since(r.now).Round(10 * time.Microsecond).String()
	var m dns.Msg
	if err := m.Unpack(msg); err != nil {
		return nil, fmt.Errorf("read own answer for %s: %w", name, err)
	}
	s.Rcode = dns.RcodeToString[m.Rcode]
	if m.Rcode == dns.RcodeSuccess && len(m.Answer) == 0 {
		s.Rcode = "NODATA"
	}
	for _, rr := range m.Answer {
		s.Records = append(s.Records, strings.ReplaceAll(rr.String(), "\t", " "))
	}
	if v == pending {
		s.From = d.afterwards(r, s.From)
	}
	for _, src := range d.zone.Load().Sources(&r.q) {
		s.Objects = append(s.Objects, src.String())
	}
	return s, nil
}

// whereFrom says who will answer, before it is asked: what is cached then is what was cached before.
func (d *DNS) whereFrom(r *request) string {
	p := d.program.Load()
	b := p.of(&r.q)
	if b == nil {
		return "no server block of the Corefile is for this name"
	}
	r.program, r.block = p, b
	if len(b.templates)+len(b.rewrites) > 0 || b.hosts != nil {
		if msg, v := d.answerLocal(r); v == done && msg != nil {
			return "host entry or template of the Corefile"
		}
	}
	if b.cluster {
		if a := d.zone.Load().Answer(nil, &r.q, zone.Options{Limit: wire.MaxTCP}); a.Outcome == zone.Answered {
			from := fmt.Sprintf("cluster zone at revision %d", d.zone.Load().Revision())
			if d.kernel != nil && d.kernel.xdp.Answers(&r.q) {
				from += " (pods that ask by UDP and IPv4 have it from the kernel, by XDP)"
			}
			return from
		}
	}
	var buf [maxKey]byte
	if m := p.cache.get(appendKey(buf[:0], &r.q), r.now); m != nil && b.cached && r.now.Before(m.expires) {
		kind := "cache"
		if m.stale {
			kind = "cache, stale because no resolver answers"
		}
		return fmt.Sprintf("%s, asked of %s %s ago, good for %s", kind, m.from, r.now.Sub(m.stored).Round(time.Second), m.expires.Sub(r.now).Round(time.Second))
	}
	rt := b.routeOf(&r.q)
	if rt == nil {
		return "no forward of the Corefile is for this name"
	}
	var all []string
	for _, u := range rt.list(r.now) {
		text := u.c.String()
		switch {
		case u.looping.Load():
			text += " (leads back here)"
		case u.fails.Load() >= failLimit:
			text += " (does not answer)"
		}
		all = append(all, text)
	}
	if len(all) == 0 {
		return "no resolver is known"
	}
	return "resolvers " + strings.Join(all, ", ")
}

// afterwards says which resolver it was.
func (d *DNS) afterwards(r *request, before string) string {
	var buf [maxKey]byte
	q := r.asked()
	if m := d.program.Load().cache.get(appendKey(buf[:0], q), time.Now()); m != nil && m.from.Addr.IsValid() {
		return fmt.Sprintf("resolver %s", m.from)
	}
	return before
}

// chanReplier takes one late reply.
type chanReplier chan []byte

func (c chanReplier) reply(_ netip.AddrPort, msg []byte) {
	select {
	case c <- slices.Clone(msg):
	default:
	}
}

// ParseType reads the mnemonic of a record type; empty means A.
func ParseType(s string) (uint16, error) {
	if s == "" {
		return dns.TypeA, nil
	}
	t, ok := dns.StringToType[strings.ToUpper(s)]
	if !ok {
		return 0, fmt.Errorf("read record type %q: want one such as A, AAAA, SRV or PTR", s)
	}
	return t, nil
}
