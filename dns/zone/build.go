package zone

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"

	"nodelet/dns/wire"
	"nodelet/internal/model"
)

// maxRecords is the room for records in the largest message, beside the longest question and OPT.
const maxRecords = wire.MaxTCP - wire.HeaderLen - wire.MaxName - 4 - wire.OptLen

// maxPointer is the largest offset a compression pointer can name.
const maxPointer = 0x3FFF

// answer is a run of packed records in the body of a service.
type answer struct {
	off, size     uint32
	count, extras uint16
}

// service is one Service while it is compiled; see record for what becomes of it.
type service struct {
	// key is the name below "svc" in wire form, without root.
	key string
	// slices are in the order of their keys.
	slices []*model.Slice
	// body holds all packed records; they name their owner by a pointer to the question.
	body        []byte
	v4, v6, srv answer
	// present: there is such a Service. A slice may come before it and stay after it.
	present bool
	// exists: the name itself has records of some type. Not so for a headless Service without endpoints.
	exists bool
	// external: it is an ExternalName, and the body is its target in wire form, if that is a name.
	external bool
	ports    []port
	// hosts are the endpoints with a hostname, sorted by it. Those known by their
	// address are found by it, see Zone.findEndpoint.
	hosts []host
}

// port is what is below a Service at _name._protocol.
type port struct {
	name        string
	protocol    model.Protocol
	v4, v6, srv answer
}

// host is one hostname below a Service.
type host struct {
	label  string
	v4, v6 answer
}

// entry is one (target, port) of a Service: what an SRV record says.
type entry struct {
	// host is the label of the endpoint, empty for the Service itself. named: it is a hostname.
	host  string
	named bool
	addr  netip.Addr
	// port is empty (number 0, no protocol) when the slice declares none.
	port model.SlicePort
}

// compile makes the answers for one Service in s, of which the key, the slices
// and, as a place to write to, the body are given.
func (c *config) compile(s *service, svc *model.Service) {
	s.present = true
	if svc.Type == model.ExternalName {
		s.external = true
		s.body, s.exists = externalTarget(svc.ExternalName)
		return
	}
	p := packer{c: c, s: s, body: s.body[:0]}
	endpoints := endpointEntries(s.slices)
	entries := endpoints
	if svc.Headless {
		s.exists = len(endpoints) > 0
	} else {
		entries = clusterEntries(svc)
		s.exists = true
	}
	p.own(entries)
	s.srv = p.srv(entries, 0)
	p.ports(entries)
	p.hosts(endpoints)
	s.body = p.body
}

// externalTarget is the target of an ExternalName. An address is no name: such
// a Service has no records.
func externalTarget(name string) ([]byte, bool) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if _, err := netip.ParseAddr(name); err == nil || name == "" {
		return nil, false
	}
	target, ok := wireName(name)
	if !ok {
		return nil, false
	}
	return target, true
}

// clusterEntries lists the cluster IPs with each port; without ports, which the
// API server lets pass for other types only, there are the addresses.
func clusterEntries(svc *model.Service) []entry {
	entries := make([]entry, 0, max(len(svc.Ports), 1)*len(svc.ClusterIPs))
	if len(svc.Ports) == 0 {
		for _, ip := range svc.ClusterIPs {
			entries = append(entries, entry{addr: ip.Unmap()})
		}
	}
	for _, p := range svc.Ports {
		for _, ip := range svc.ClusterIPs {
			port := model.SlicePort{Name: strings.ToLower(p.Name), Protocol: p.Protocol, Port: p.Port}
			entries = append(entries, entry{addr: ip.Unmap(), port: port})
		}
	}
	return entries
}

// endpointEntries lists the ready endpoints with each port of their slice.
// Ready is the controller's word: it covers publishNotReadyAddresses, and it
// is false from the moment a pod terminates.
func endpointEntries(list []*model.Slice) []entry {
	var entries []entry
	for _, sl := range list {
		ports := sl.Ports
		if len(ports) == 0 {
			ports = []model.SlicePort{{}}
		}
		for i := range sl.Endpoints {
			e := &sl.Endpoints[i]
			if !e.Ready || !e.Addr.IsValid() {
				continue
			}
			label, named := hostLabel(e)
			for _, p := range ports {
				p.Name = strings.ToLower(p.Name)
				entries = append(entries, entry{host: label, named: named, addr: endpointAddr(e), port: p})
			}
		}
	}
	return entries
}

// packer appends records to the body of a service.
type packer struct {
	c    *config
	s    *service
	body []byte // of s
	// v4 and v6 are the lists of the name itself; places gives where an address is in its list, where they are long.
	v4, v6 []netip.Addr
	places map[netip.Addr]int
}

// addrs packs the distinct addresses of the entries.
func (p *packer) addrs(entries []entry) (v4, v6 answer) {
	list4, list6 := distinct(entries)
	return p.family(list4, p.v4, p.s.v4), p.family(list6, p.v6, p.s.v6)
}

// distinct gives the addresses of the entries by family, in their order.
func distinct(entries []entry) (v4, v6 []netip.Addr) {
	seen := newSet[netip.Addr](len(entries))
	for i := range entries {
		switch ip := entries[i].addr; {
		case !seen.add(ip):
		case ip.Is4():
			v4 = append(v4, ip)
		default:
			v6 = append(v6, ip)
		}
	}
	return v4, v6
}

// family packs addresses of one family. What is a part of whole, the answer at
// the Service's own name with the addresses of own, is shared and not packed
// again: nearly always.
func (p *packer) family(list, own []netip.Addr, whole answer) answer {
	if len(list) == 0 {
		return answer{}
	}
	size := recordSize(list[0].Is4())
	if at := p.place(list[0], own); at >= 0 && at+len(list) <= int(whole.count) && slices.Equal(own[at:at+len(list)], list) {
		return answer{off: whole.off + uint32(at*size), size: uint32(len(list) * size), count: uint16(len(list))}
	}
	a := p.begin()
	for _, ip := range list {
		if !p.room(a, size) {
			break
		}
		p.body = appendAddr(p.body, wire.HeaderLen, ip, p.c.TTL)
		a.count++
	}
	return p.end(a)
}

// place gives where an address is in the list of the Service's own name, below 0 when it is not.
func (p *packer) place(ip netip.Addr, own []netip.Addr) int {
	if p.places == nil {
		return slices.Index(own, ip)
	}
	if at, ok := p.places[ip]; ok {
		return at
	}
	return -1
}

// own packs the addresses of the Service's own name, which the others may share.
func (p *packer) own(entries []entry) {
	v4, v6 := distinct(entries)
	p.s.v4, p.s.v6 = p.family(v4, nil, answer{}), p.family(v6, nil, answer{})
	p.v4, p.v6 = v4, v6
	if len(entries) <= smallSet {
		return
	}
	p.places = make(map[netip.Addr]int, len(v4)+len(v6))
	for _, list := range [][]netip.Addr{v4, v6} {
		for at, ip := range list {
			p.places[ip] = at
		}
	}
}

// recordSize is the length of an address record with a pointer as its owner.
func recordSize(is4 bool) int {
	if is4 {
		return 2 + 10 + 4
	}
	return 2 + 10 + 16
}

// appendAddr appends an A or AAAA record with a pointer as its owner.
func appendAddr(dst []byte, owner uint16, ip netip.Addr, ttl uint32) []byte {
	if ip.Is4() {
		b := ip.As4()
		return append(wire.AppendRR(dst, owner, wire.RR{Type: wire.TypeA, TTL: ttl, Size: 4}), b[:]...)
	}
	b := ip.As16()
	return append(wire.AppendRR(dst, owner, wire.RR{Type: wire.TypeAAAA, TTL: ttl, Size: 16}), b[:]...)
}

// target is an SRV record's identity: the same host and port are listed once.
type target struct {
	host string
	port uint16
}

// srv packs the SRV records of the entries and the addresses of their targets
// as additional records. prefix is what the queried name has before the Service.
// The weight is 100 divided by the number of entries, as CoreDNS has it.
func (p *packer) srv(entries []entry, prefix int) answer {
	if len(entries) == 0 {
		return answer{}
	}
	weight := uint16(max(100/len(entries), 1))
	base := wire.HeaderLen + prefix + len(p.s.key) + len(svcLabel) + len(p.c.domain) + 4
	a := p.begin()
	seen := newSet[target](len(entries))
	at := make(map[string]int, 1) // offset of the target's name in the message
	for i := range entries {
		e := &entries[i]
		if e.port.Port == 0 || !seen.add(target{e.host, e.port.Port}) {
			continue
		}
		name := p.name(e.host)
		if !p.room(a, 2+10+6+len(name)) {
			break
		}
		p.body = wire.AppendRR(p.body, wire.HeaderLen, wire.RR{Type: wire.TypeSRV, TTL: p.c.TTL, Size: 6 + len(name)})
		p.body = append(p.body, 0, 0)
		p.body = binary.BigEndian.AppendUint16(p.body, weight)
		p.body = binary.BigEndian.AppendUint16(p.body, e.port.Port)
		if _, ok := at[e.host]; !ok {
			at[e.host] = base + len(p.body) - int(a.off)
		}
		p.body = append(p.body, name...)
		a.count++
	}
	return p.extras(a, entries, at)
}

// extras adds the addresses of the targets that were listed.
func (p *packer) extras(a answer, entries []entry, at map[string]int) answer {
	seen := newSet[entry](len(entries))
	for i := range entries {
		e := entry{host: entries[i].host, addr: entries[i].addr}
		off, listed := at[e.host]
		if !listed || !seen.add(e) {
			continue
		}
		var name []byte
		if off > maxPointer {
			name = p.name(e.host)
		}
		if !p.room(a, recordSize(e.addr.Is4())+len(name)) {
			break
		}
		if name == nil {
			p.body = appendAddr(p.body, uint16(off), e.addr, p.c.TTL)
		} else {
			t, raw := wire.TypeAAAA, e.addr.AsSlice()
			if e.addr.Is4() {
				t = wire.TypeA
			}
			p.body = append(wire.AppendNamedRR(p.body, name, wire.RR{Type: t, TTL: p.c.TTL, Size: len(raw)}), raw...)
		}
		a.extras++
	}
	return p.end(a)
}

// name is the full name of an endpoint, or of the Service when host is empty.
// It is never compressed: RFC 2782 forbids that in an SRV record.
func (p *packer) name(host string) []byte {
	name := make([]byte, 0, 1+len(host)+len(p.s.key)+len(svcLabel)+len(p.c.domain))
	if host != "" {
		name = appendLabel(name, host)
	}
	name = append(name, p.s.key...)
	name = append(name, svcLabel...)
	return append(name, p.c.domain...)
}

// ports packs what is below the Service at each named port.
func (p *packer) ports(entries []entry) {
	for i := range entries {
		name, proto := entries[i].port.Name, entries[i].port.Protocol
		if name == "" || len(name) > 62 || slices.ContainsFunc(p.s.ports, func(o port) bool { return o.name == name && o.protocol == proto }) {
			continue
		}
		var same []entry
		for _, e := range entries {
			if e.port.Name == name && e.port.Protocol == proto {
				same = append(same, e)
			}
		}
		o := port{name: name, protocol: proto}
		o.v4, o.v6 = p.addrs(same)
		o.srv = p.srv(same, 2+len(name)+2+len(proto.String()))
		p.s.ports = append(p.s.ports, o)
	}
}

// hosts packs the addresses of each hostname.
func (p *packer) hosts(entries []entry) {
	if !slices.ContainsFunc(entries, func(e entry) bool { return e.named }) {
		return
	}
	entries = slices.DeleteFunc(slices.Clone(entries), func(e entry) bool { return !e.named })
	slices.SortStableFunc(entries, func(a, b entry) int { return strings.Compare(a.host, b.host) })
	for len(entries) > 0 {
		n := 1
		for n < len(entries) && entries[n].host == entries[0].host {
			n++
		}
		h := host{label: entries[0].host}
		h.v4, h.v6 = p.addrs(entries[:n])
		p.s.hosts = append(p.s.hosts, h)
		entries = entries[n:]
	}
	p.s.hosts = slices.Clip(p.s.hosts)
}

// endpointSRV packs the SRV records of one endpoint. Hardly anybody asks for
// them, so it is done for each query.
func (c *config) endpointSRV(key string, list []*model.Slice, label []byte) *service {
	one := &service{key: key}
	entries := slices.DeleteFunc(endpointEntries(list), func(e entry) bool { return e.host != string(label) })
	p := packer{c: c, s: one}
	one.srv = p.srv(entries, 1+len(label))
	one.body = p.body
	return one
}

func (p *packer) begin() answer { return answer{off: uint32(len(p.body))} }

func (p *packer) room(a answer, size int) bool {
	return len(p.body)-int(a.off)+size <= maxRecords && a.count < 1<<16-1
}

func (p *packer) end(a answer) answer {
	a.size = uint32(len(p.body)) - a.off
	return a
}

// set remembers what was seen; small ones are scanned, which is quicker than hashing.
type set[T comparable] struct {
	list []T
	big  map[T]struct{}
}

const smallSet = 8

func newSet[T comparable](size int) *set[T] {
	if size <= smallSet {
		return &set[T]{list: make([]T, 0, size)}
	}
	return &set[T]{big: make(map[T]struct{}, size)}
}

// add reports whether v is new.
func (s *set[T]) add(v T) bool {
	if s.big != nil {
		if _, ok := s.big[v]; ok {
			return false
		}
		s.big[v] = struct{}{}
		return true
	}
	if slices.Contains(s.list, v) {
		return false
	}
	s.list = append(s.list, v)
	return true
}
