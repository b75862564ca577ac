package dns

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"nodelet/dns/corefile"
	"nodelet/dns/wire"
)

// hostTable are the names of a Corefile's hosts plugin, by name in wire form.
type hostTable struct {
	ttl   uint32
	addrs map[string][]netip.Addr
	names map[string][]string // by reverse name; targets with final dot
}

func newHostTable(h *corefile.Hosts) *hostTable {
	if h == nil {
		return nil
	}
	t := &hostTable{ttl: h.TTL, addrs: map[string][]netip.Addr{}, names: map[string][]string{}}
	for name, addrs := range h.Addrs {
		if s, err := suffixOf(name); err == nil {
			t.addrs[s.name] = addrs
		}
	}
	for a, names := range h.Names {
		reverse, err := dns.ReverseAddr(a.String())
		if err != nil || h.NoReverse {
			continue
		}
		if s, err := suffixOf(strings.TrimSuffix(reverse, ".")); err == nil {
			for _, n := range names {
				t.names[s.name] = append(t.names[s.name], dns.Fqdn(n))
			}
		}
	}
	return t
}

// answerLocal answers from the templates and host entries of the configuration.
func (d *DNS) answerLocal(r *request) ([]byte, verdict) {
	b := r.block
	if b.hosts == nil && len(b.templates) == 0 {
		return nil, next
	}
	var m *dns.Msg
	for i := range b.templates {
		if m = b.templates[i].answer(r); m != nil {
			break
		}
	}
	if m == nil && b.hosts != nil {
		m = b.hosts.answer(r)
	}
	if m == nil {
		return nil, next
	}
	return send(r.out, &r.q, m, r.limit), done
}

func (t *hostTable) answer(r *request) *dns.Msg {
	addrs, is := t.addrs[string(r.q.Name())]
	names := t.names[string(r.q.Name())]
	if !is && (len(names) == 0 || r.q.Type != wire.TypePTR) {
		return nil
	}
	m := new(dns.Msg)
	head := dns.RR_Header{Name: textOf(&r.q), Rrtype: uint16(r.q.Type), Class: dns.ClassINET, Ttl: t.ttl}
	for _, a := range addrs {
		switch {
		case r.q.Type == wire.TypeA && a.Is4():
			m.Answer = append(m.Answer, &dns.A{Hdr: head, A: a.AsSlice()})
		case r.q.Type == wire.TypeAAAA && a.Is6():
			m.Answer = append(m.Answer, &dns.AAAA{Hdr: head, AAAA: a.AsSlice()})
		}
	}
	if r.q.Type == wire.TypePTR {
		for _, n := range names {
			m.Answer = append(m.Answer, &dns.PTR{Hdr: head, Ptr: n})
		}
	}
	if n := len(m.Answer); n > 1 {
		turn := int(r.turn) % n
		m.Answer = slices.Concat(m.Answer[turn:], m.Answer[:turn])
	}
	return m
}

// templateRule is one template, ready for queries.
type templateRule struct {
	corefile.Template
	zones []suffix
	qtype uint16 // 0: any
	rcode int
}

func newTemplateRule(t corefile.Template) (templateRule, error) {
	zones, err := suffixesOf(t.Zones)
	if err != nil {
		return templateRule{}, err
	}
	r := templateRule{Template: t, zones: zones, rcode: dns.StringToRcode[t.Rcode]}
	if t.Type != "ANY" {
		qtype, ok := dns.StringToType[t.Type]
		if !ok {
			return r, &corefile.Error{File: "template", What: "type " + t.Type + " is not known"}
		}
		r.qtype = qtype
	}
	return r, nil
}

// answer gives nil when the rule is not for this query.
func (t *templateRule) answer(r *request) *dns.Msg {
	i := slices.IndexFunc(t.zones, func(z suffix) bool { return z.of(&r.q) })
	if i < 0 || t.qtype != 0 && t.qtype != uint16(r.q.Type) {
		return nil
	}
	name := textOf(&r.q)
	for _, re := range t.Match {
		match := re.FindStringSubmatch(name)
		if match == nil {
			continue
		}
		data := corefile.TemplateData{
			Zone: dns.Fqdn(t.Zones[i]), Name: name, Class: "IN", Type: dns.TypeToString[uint16(r.q.Type)], Match: match, Group: map[string]string{},
		}
		for j, group := range re.SubexpNames() {
			if group != "" {
				data.Group[group] = match[j]
			}
		}
		m := &dns.Msg{MsgHdr: dns.MsgHdr{Rcode: t.rcode}}
		if !t.fill(m, &data) {
			return &dns.Msg{MsgHdr: dns.MsgHdr{Rcode: dns.RcodeServerFailure}}
		}
		return m
	}
	if !t.Fallthrough {
		return &dns.Msg{MsgHdr: dns.MsgHdr{Rcode: dns.RcodeNameError}}
	}
	return nil
}

// fill writes the records; false when the text of one makes no record.
func (t *templateRule) fill(m *dns.Msg, data *corefile.TemplateData) bool {
	for _, s := range []struct {
		templates int
		to        *[]dns.RR
	}{{len(t.Answer), &m.Answer}, {len(t.Authority), &m.Ns}, {len(t.Additional), &m.Extra}} {
		for i := range s.templates {
			var b strings.Builder
			tmpl := t.Answer
			switch s.to {
			case &m.Ns:
				tmpl = t.Authority
			case &m.Extra:
				tmpl = t.Additional
			}
			if tmpl[i].Execute(&b, data) != nil {
				return false
			}
			rr, err := dns.NewRR(b.String())
			if err != nil || rr == nil {
				return false
			}
			*s.to = append(*s.to, rr)
		}
	}
	return true
}

// textOf is the name of a query as text, with the final dot.
func textOf(q *wire.Query) string {
	name, _, err := dns.UnpackDomainName(q.Name(), 0)
	if err != nil {
		return "." // a parsed name is a good one
	}
	return name
}

// send writes a message as the reply to q: code and records.
func send(out []byte, q *wire.Query, m *dns.Msg, limit int) []byte {
	m.Question = []dns.Question{{Name: textOf(q), Qtype: uint16(q.Type), Qclass: wire.ClassIN}}
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			if strings.EqualFold(rr.Header().Name, m.Question[0].Name) {
				rr.Header().Name = m.Question[0].Name // a pointer to the question: the asker's case
			}
		}
	}
	m.Compress = true
	packed, err := m.Pack()
	if err != nil || len(packed) > wire.MaxTCP-wire.OptLen {
		return wire.Status(out, q, wire.ServFail)
	}
	var flags uint16
	if m.Authoritative {
		flags = wire.FlagAA
	}
	msg := append(wire.Begin(out, q, flags, wire.Rcode(m.Rcode&0xF)), packed[q.End():]...)
	n := wire.Counts{Answer: uint16(len(m.Answer)), Authority: uint16(len(m.Ns)), Extra: uint16(len(m.Extra))}
	return wire.Finish(msg, q, n, limit)
}
