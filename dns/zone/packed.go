package zone

import (
	"iter"

	"nodelet/dns/wire"
)

// Records are the packed records of one type at one name, those that answer
// first. Their owner is a pointer to the question.
type Records struct {
	// Data is the zone's own and must not be written to.
	Data           []byte
	Answer, Extras uint16
	// Unpacked: they are written for each query, and are not in Data.
	Unpacked bool
}

// Packed is what a zone answers at one name, for servers that answer without
// it. A type that is not here is NODATA: the name exists.
type Packed struct {
	// Name is in wire form, in lower case, with the domain and the root label.
	Name []byte
	// V4 and V6 are address records, each as long as the next: a reply may begin with any of them.
	V4, V6, SRV Records
}

// Packed gives what is answered at the names of one Service and below it, but
// for names that are not packed: endpoints known by their address, and Services
// of type ExternalName. The key is one of Keys or Changed.
func (z *Zone) Packed(key string) iter.Seq[Packed] {
	return func(yield func(Packed) bool) {
		value, ok := z.services.get([]byte(key))
		s := record(value)
		if !ok || !s.is(isPresent) || s.is(isExternal) || !z.synced {
			return
		}
		rest := key + svcLabel + z.c.domain
		v4, v6, srv := s.own()
		if s.is(isExisting) && !yield(Packed{Name: []byte(rest), V4: s.records(v4), V6: s.records(v6), SRV: s.records(srv)}) {
			return
		}
		for p := range s.ports() {
			name := appendLabel(appendLabel(nil, "_"+string(p.name)), "_"+p.protocol.String())
			if !yield(Packed{Name: lowered(append(name, rest...)), V4: s.records(p.v4), V6: s.records(p.v6), SRV: s.records(p.srv)}) {
				return
			}
		}
		section, _ := s.behindPorts()
		hosts := hostTable(section)
		for i := range hosts.len() {
			h := hosts.at(i)
			name := append(appendLabel(nil, string(h.label)), rest...)
			if !yield(Packed{Name: name, V4: s.records(h.v4), V6: s.records(h.v6), SRV: Records{Unpacked: true}}) {
				return
			}
		}
	}
}

func (r record) records(a answer) Records {
	return Records{Data: r.data(a), Answer: a.count, Extras: a.extras}
}

// lowered changes name, whose protocol is written in capitals; the lengths of labels are no letters.
func lowered(name []byte) []byte {
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			name[i] = c + 'a' - 'A'
		}
	}
	return name
}

// Keys are those of all Services in the zone.
func (z *Zone) Keys() iter.Seq[string] {
	return func(yield func(string) bool) {
		for key := range z.services.all() {
			if !yield(string(key)) {
				return
			}
		}
	}
}

// Changed are the keys of the Services that may have other answers than in the
// zone before; ok is false when z does not come from before by one Advance or
// less, so that all may have.
func (z *Zone) Changed(before *Zone) (keys []string, ok bool) {
	switch {
	case before == nil || z.c != before.c || z.synced != before.synced:
		return nil, false
	case z.step == before.step:
		return nil, true
	case z.step == before.step+1:
		return z.changed, true
	}
	return nil, false
}

// SOA is the SOA record of the zone as a reply to a question for the domain
// itself has it, and DomainLen the length of the domain in wire form: at a name
// below, the three pointers to the domain are further on by what the name has more.
func (z *Zone) SOA() (record []byte, domainLen int) {
	return z.appendSOA(nil, wire.HeaderLen), len(z.c.domain)
}
