package dns

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"nodelet/dns/corefile"
	"nodelet/dns/wire"
)

// disguise is a question that is answered as another one: the reply gets the
// name and type that were asked, and fits who asked.
type disguise struct {
	asked wire.Query
	limit int
	as    rewriting
}

// rewriting is what the rules make of a question.
type rewriting struct {
	name  string // without final dot
	qtype uint16
	// ttl is the rule that bounds TTLs; nil: none does.
	ttl *corefile.Rewrite
}

// answer goes along the chain with what the rewrite rules make of the question.
func (d *DNS) answer(r *request) ([]byte, verdict) {
	if len(r.block.rewrites) == 0 {
		return d.walk(r)
	}
	as, changed := rewritten(r.block.rewrites, rewriting{name: strings.TrimSuffix(textOf(&r.q), "."), qtype: uint16(r.q.Type)})
	if !changed {
		return d.walk(r)
	}
	to, err := suffixOf(as.name)
	if err != nil {
		return wire.Status(r.out, &r.q, wire.ServFail), done
	}
	g := &disguise{asked: r.q, limit: r.limit, as: as}
	out, late := r.out, r.late
	defer func() { r.q, r.late, r.limit = g.asked, late, g.limit }()
	r.q.Set([]byte(to.name), wire.Type(as.qtype))
	r.q.ID, r.q.Flags, r.q.DO, r.q.EDNS = g.asked.ID, g.asked.Flags, g.asked.DO, g.asked.EDNS
	r.limit, r.out, r.late = wire.MaxTCP, nil, disguised{g, late}
	msg, v := d.walk(r)
	r.out = out
	if v == done {
		msg = append(out, g.undo(msg)...)
	}
	return msg, v
}

// undo turns the reply for the other name into one for the name asked.
func (g *disguise) undo(msg []byte) []byte {
	var m dns.Msg
	if m.Unpack(msg) != nil || len(m.Question) != 1 {
		return wire.Status(nil, &g.asked, wire.ServFail)
	}
	other, own := m.Question[0].Name, textOf(&g.asked)
	for _, rr := range m.Answer {
		if strings.EqualFold(rr.Header().Name, other) {
			rr.Header().Name = own
		}
	}
	m.Extra = without(m.Extra, dns.TypeOPT)
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			if h := rr.Header(); g.as.ttl != nil {
				h.Ttl = min(max(h.Ttl, g.as.ttl.Min), g.as.ttl.Max)
			}
		}
	}
	return send(nil, &g.asked, &m, g.limit)
}

// disguised is a replier that undoes the disguise of late replies.
type disguised struct {
	*disguise
	to replier
}

func (d disguised) reply(client netip.AddrPort, msg []byte) {
	if msg != nil {
		msg = d.undo(msg)
	}
	d.to.reply(client, msg)
}

// rewritten applies the rules, each to what the one before left.
func rewritten(rules []corefile.Rewrite, q rewriting) (rewriting, bool) {
	changed := false
	for i := range rules {
		r := &rules[i]
		switch r.Field {
		case corefile.TypeField:
			if dns.StringToType[r.From] != q.qtype {
				continue
			}
			q.qtype = dns.StringToType[r.To]
		case corefile.TTLField:
			if _, ok := apply(r, q.name); !ok {
				continue
			}
			q.ttl = r
		case corefile.NameField:
			name, ok := apply(r, q.name)
			if !ok {
				continue
			}
			q.name = name
		}
		changed = true
		if !r.Continue {
			break
		}
	}
	return q, changed
}

func apply(r *corefile.Rewrite, name string) (string, bool) {
	switch r.Kind {
	case corefile.Exact:
		return r.To, name == r.From
	case corefile.Prefix:
		rest, ok := strings.CutPrefix(name, r.From)
		return r.To + rest, ok
	case corefile.Suffix:
		rest, ok := strings.CutSuffix(name, r.From)
		return rest + r.To, ok
	case corefile.Substring:
		return strings.ReplaceAll(name, r.From, r.To), strings.Contains(name, r.From)
	}
	match := r.Pattern.FindStringSubmatch(name + ".")
	if match == nil {
		return name, false
	}
	pairs := make([]string, 0, 2*len(match))
	for i := len(match) - 1; i >= 0; i-- { // {12} before {1}
		pairs = append(pairs, "{"+strconv.Itoa(i)+"}", match[i])
	}
	return strings.TrimSuffix(strings.ToLower(strings.NewReplacer(pairs...).Replace(r.To)), "."), true
}
