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
// name that was asked, and fits who asked.
type disguise struct {
	asked wire.Query
	limit int
}

// answer goes along the chain, with the name that the rewrite rules make of the one asked.
func (d *DNS) answer(r *request) ([]byte, verdict) {
	if len(r.block.rewrites) == 0 {
		return d.walk(r)
	}
	name, changed := rewritten(r.block.rewrites, strings.TrimSuffix(textOf(&r.q), "."))
	if !changed {
		return d.walk(r)
	}
	to, err := suffixOf(name)
	if err != nil {
		return wire.Status(r.out, &r.q, wire.ServFail), done
	}
	return d.answerAs(r, to)
}

// answerAs answers with what is known of another name.
func (d *DNS) answerAs(r *request, to suffix) ([]byte, verdict) {
	g := &disguise{asked: r.q, limit: r.limit}
	out, late := r.out, r.late
	defer func() { r.q, r.late, r.limit = g.asked, late, g.limit }()
	r.q.Set([]byte(to.name), g.asked.Type)
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

// rewritten applies the rules to a name without final dot.
func rewritten(rules []corefile.Rewrite, name string) (string, bool) {
	changed := false
	for i := range rules {
		next, ok := apply(&rules[i], name)
		if !ok {
			continue
		}
		name, changed = next, true
		if !rules[i].Continue {
			break
		}
	}
	return name, changed
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
