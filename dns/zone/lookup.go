package zone

import (
	"encoding/binary"
	"iter"
	"net/netip"
	"strconv"

	"nodelet/dns/wire"
	"nodelet/internal/model"
)

const (
	svcLabel = "\x03svc"
	podLabel = "\x03pod"
	// schema is the version of the DNS specification the zone follows.
	schema    = "1.1.0"
	schemaTTL = 28800
	// maxSOA is the longest TTL of an SOA record, as upstream.
	maxSOA = 300
	// maxChain bounds the ExternalNames that are followed within the zone.
	maxChain = 10
)

// Outcome says what Answer made of a query.
type Outcome uint8

// The outcomes.
const (
	// Answered: the reply is complete.
	Answered Outcome = iota
	// NotMine: the name is not the zone's; nothing was written.
	NotMine
	// Chase: the reply so far ends in a CNAME whose target is outside the zone.
	Chase
)

// Options are what an answer depends on beside the query.
type Options struct {
	// Limit is the largest reply in bytes.
	Limit int
	// Turn rotates lists of addresses, so that clients that take the first spread.
	Turn uint32
}

// Reply is what became of a query.
type Reply struct {
	Outcome Outcome
	Rcode   wire.Rcode
	// Msg is the reply; it begins with header and question. With Chase the
	// counts are not written yet and the records are the CNAMEs so far.
	Msg []byte
	// CNAMEs is the number of records in Msg, and Target the name to resolve, with Chase.
	CNAMEs uint16
	Target []byte
}

// node is what is known about one name.
type node struct {
	exists      bool
	s           record // nil: of no Service
	v4, v6, srv answer
	dynamic     dynamic
}

// dynamic names the answers that are not packed but written for each query.
type dynamic uint8

const (
	static dynamic = iota
	apex
	version
	revision
	nameserver
	pod
	endpoint
)

// Answer answers q into dst, which must be empty; it does not allocate when
// dst has room for the limit.
func (z *Zone) Answer(dst []byte, q *wire.Query, o Options) Reply {
	below := q.Labels() - z.c.labels
	if below < 0 || string(q.From(below)) != z.c.domain {
		return z.answerReverse(dst, q, o)
	}
	switch {
	case q.Type == wire.TypeAXFR || q.Type == wire.TypeIXFR:
		return Reply{Rcode: wire.Refused, Msg: wire.Status(dst, q, wire.Refused)}
	case !z.synced || z.unverified(q, below):
		return Reply{Rcode: wire.ServFail, Msg: wire.Status(dst, q, wire.ServFail)}
	}
	n := z.find(q, below)
	if n.s != nil && n.s.is(isExternal) && n.exists {
		return z.answerExternal(dst, q, n.s.target(), o)
	}
	if !n.exists {
		return z.negative(dst, q, wire.NXDomain, o)
	}
	msg := wire.Begin(dst, q, wire.FlagAA, wire.Success)
	msg, counts := z.appendRecords(msg, q, n, o)
	if counts == (wire.Counts{}) {
		return z.negative(dst, q, wire.Success, o)
	}
	return Reply{Msg: wire.Finish(msg, q, counts, o.Limit)}
}

// unverified reports that a pod record is asked for before the pods are known.
func (z *Zone) unverified(q *wire.Query, below int) bool {
	return z.c.Pods == PodsVerified && !z.in.Pods.Synced() && below == 3 && string(q.Between(below-1, below)) == podLabel
}

// find gives what is at a name with that many labels above the domain.
func (z *Zone) find(q *wire.Query, below int) node {
	if below == 0 {
		return node{exists: true, dynamic: apex}
	}
	top := string(q.Between(below-1, below))
	switch {
	case top == svcLabel:
		return z.findService(q, below-1)
	case top == podLabel:
		return z.findPod(q, below-1)
	case below == 1 && top == "\x0bdns-version":
		return node{exists: true, dynamic: version}
	case below == 1 && top == "\x08_nodelet":
		return node{exists: true}
	case below == 2 && top == "\x08_nodelet" && string(q.Label(0)) == "rev":
		return node{exists: true, dynamic: revision}
	case below == 2 && top == "\x03dns" && string(q.Label(0)) == "ns":
		return node{exists: true, dynamic: nameserver}
	}
	return node{}
}

// findService looks up what is n labels below "svc".
func (z *Zone) findService(q *wire.Query, n int) node {
	switch n {
	case 0:
		return node{exists: true}
	case 1:
		return node{exists: z.hasNamespace(q.Label(0))}
	case 2, 3, 4:
	default:
		return node{}
	}
	value, ok := z.services.get(q.Between(n-2, n))
	s := record(value)
	if !ok || !s.is(isPresent) {
		return node{}
	}
	switch {
	case n == 2:
		v4, v6, srv := s.own()
		return node{exists: s.is(isExisting), s: s, v4: v4, v6: v6, srv: srv}
	case n == 3:
		return z.findEndpoint(q, s)
	case n == 4:
		if p, ok := s.port(q.Label(0), q.Label(1)); ok {
			return node{exists: true, s: s, v4: p.v4, v6: p.v6, srv: p.srv}
		}
	}
	return node{}
}

// findEndpoint looks up an endpoint of s by its hostname, or by its address.
func (z *Zone) findEndpoint(q *wire.Query, s record) node {
	label, key := q.Label(0), q.Between(1, 3)
	n := node{}
	hosts, _ := s.behindPorts()
	if h, ok := hostTable(hosts).find(label); ok {
		n = node{exists: true, s: s, v4: h.v4, v6: h.v6}
	} else if a, ok := labelAddr(label); ok && z.hasEndpoint(key, a) && !s.is(isExternal) {
		n = node{exists: true, dynamic: endpoint}
	}
	if n.exists && q.Type == wire.TypeSRV {
		one := z.c.endpointSRV(string(key), z.slicesOf(key), label)
		return node{exists: true, s: one.appendRecord(nil), srv: one.srv}
	}
	return n
}

// hasEndpoint reports whether a Service has an endpoint that is known by that address.
func (z *Zone) hasEndpoint(key []byte, a netip.Addr) bool {
	var buf [16]byte
	refs, _ := z.reverse.get(appendAddrKey(buf[:0], a))
	for len(refs) > 0 {
		var of, host []byte
		of, host, refs = cutRef(refs)
		if string(of) == string(key) && string(host) == byAddr {
			return true
		}
	}
	return false
}

// slicesOf gives the slices of a Service, in the order of their keys.
func (z *Zone) slicesOf(key []byte) []*model.Slice {
	value, ok := z.services.get(key)
	if !ok {
		return nil
	}
	return slicesIn(z.in, record(value).sliceKeys(key))
}

func slicesIn(in Input, keys iter.Seq[model.Key]) (list []*model.Slice) {
	for k := range keys {
		if sl, ok := in.Slices.Get(k); ok {
			list = append(list, sl)
		}
	}
	return list
}

// hasNamespace reports whether a namespace is known: it is in the table or has a Service.
func (z *Zone) hasNamespace(ns []byte) bool {
	_, ok := z.namespaces.get(ns)
	return ok
}

// findPod looks up what is n labels below "pod".
func (z *Zone) findPod(q *wire.Query, n int) node {
	switch {
	case n == 0:
		return node{exists: true}
	case z.c.Pods == PodsDisabled:
		return node{}
	case n == 1:
		return node{exists: z.hasNamespace(q.Label(0))}
	case n == 2:
		a, ok := podAddr(q.Label(0))
		return node{exists: ok && z.hasPod(q.Label(1), a), dynamic: pod}
	}
	return node{}
}

// hasPod reports whether the record of an address below a namespace exists.
// Where the namespaces cannot be listed, any will do for an insecure record: a
// pod's namespace need not have a Service.
func (z *Zone) hasPod(ns []byte, a netip.Addr) bool {
	if z.c.Pods == PodsInsecure {
		return !z.in.Namespaces.Synced() || z.hasNamespace(ns)
	}
	var buf [16]byte
	list, _ := z.pods.get(appendAddrKey(buf[:0], a))
	for len(list) > 0 {
		var have []byte
		if have, list = cutText(list); string(have) == string(ns) {
			return true
		}
	}
	return false
}

// port gives the port with the labels _name and _protocol. A Service has few.
func (r record) port(name, proto []byte) (p portView, ok bool) {
	if len(name) < 2 || name[0] != '_' {
		return p, false
	}
	var number model.Protocol
	switch string(proto) {
	case "_tcp":
		number = model.TCP
	case "_udp":
		number = model.UDP
	case "_sctp":
		number = model.SCTP
	default:
		return p, false
	}
	for p := range r.ports() {
		if p.protocol == number && string(p.name) == string(name[1:]) {
			return p, true
		}
	}
	return p, false
}

// appendRecords appends the records of n of the type asked for.
func (z *Zone) appendRecords(msg []byte, q *wire.Query, n node, o Options) ([]byte, wire.Counts) {
	if n.dynamic != static {
		return z.appendDynamic(msg, q, n.dynamic)
	}
	var a answer
	switch q.Type {
	case wire.TypeA:
		a = n.v4
	case wire.TypeAAAA:
		a = n.v6
	case wire.TypeSRV:
		a = n.srv
	}
	if a.count == 0 {
		return msg, wire.Counts{}
	}
	body := n.s.data(a)
	if a.count > 1 && q.Type != wire.TypeSRV {
		first := int(o.Turn%uint32(a.count)) * recordSize(q.Type == wire.TypeA)
		msg = append(msg, body[first:]...)
		body = body[:first]
	}
	return append(msg, body...), wire.Counts{Answer: a.count, Extra: a.extras}
}

func (z *Zone) appendDynamic(msg []byte, q *wire.Query, d dynamic) ([]byte, wire.Counts) {
	one := wire.Counts{Answer: 1}
	switch {
	case d == apex && q.Type == wire.TypeSOA:
		return z.appendSOA(msg, wire.HeaderLen), one
	case d == apex && q.Type == wire.TypeNS:
		return z.appendNS(msg)
	case d == version && q.Type == wire.TypeTXT:
		msg = wire.AppendRR(msg, wire.HeaderLen, wire.RR{Type: wire.TypeTXT, TTL: schemaTTL, Size: 1 + len(schema)})
		return append(append(msg, byte(len(schema))), schema...), one
	case d == revision && q.Type == wire.TypeTXT:
		var buf [20]byte
		text := strconv.AppendUint(buf[:0], uint64(z.in.Revision), 10)
		msg = wire.AppendRR(msg, wire.HeaderLen, wire.RR{Type: wire.TypeTXT, TTL: 0, Size: 1 + len(text)})
		return append(append(msg, byte(len(text))), text...), one
	case d == nameserver:
		n := uint16(0)
		for _, ip := range z.c.Servers {
			if q.Type == wire.TypeA && ip.Is4() || q.Type == wire.TypeAAAA && ip.Is6() {
				msg = appendAddr(msg, wire.HeaderLen, ip, z.c.TTL)
				n++
			}
		}
		return msg, wire.Counts{Answer: n}
	case d == pod || d == endpoint:
		ip, _ := podAddr(q.Label(0))
		if q.Type == wire.TypeA && ip.Is4() || q.Type == wire.TypeAAAA && ip.Is6() {
			return appendAddr(msg, wire.HeaderLen, ip, z.c.TTL), one
		}
	}
	return msg, wire.Counts{}
}

// appendNS appends the name server of the zone, with its addresses as additional records.
func (z *Zone) appendNS(msg []byte) ([]byte, wire.Counts) {
	msg = wire.AppendRR(msg, wire.HeaderLen, wire.RR{Type: wire.TypeNS, TTL: z.c.TTL, Size: len(nsPrefix) + 2})
	at := uint16(len(msg))
	msg = appendPointer(append(msg, nsPrefix...), wire.HeaderLen)
	for _, ip := range z.c.Servers {
		msg = appendAddr(msg, at, ip, z.c.TTL)
	}
	return msg, wire.Counts{Answer: 1, Extra: uint16(len(z.c.Servers))}
}

const (
	nsPrefix   = "\x02ns\x03dns"
	hostmaster = "\x0ahostmaster"
)

func appendPointer(dst []byte, off uint16) []byte {
	return binary.BigEndian.AppendUint16(dst, 0xC000|off)
}

// appendSOA appends the SOA record; the domain's name is at offset domain.
// The serial is the revision, so that a secondary or a human sees change.
func (z *Zone) appendSOA(msg []byte, domain uint16) []byte {
	size := len(nsPrefix) + 2 + len(hostmaster) + 2 + 5*4
	msg = wire.AppendRR(msg, domain, wire.RR{Type: wire.TypeSOA, TTL: min(z.c.TTL, maxSOA), Size: size})
	msg = appendPointer(append(msg, nsPrefix...), domain)
	msg = appendPointer(append(msg, hostmaster...), domain)
	for _, v := range [...]uint32{uint32(z.in.Revision), 7200, 1800, 86400, z.c.TTL} {
		msg = binary.BigEndian.AppendUint32(msg, v)
	}
	return msg
}

// negative is NXDOMAIN or, with Success, NODATA.
func (z *Zone) negative(dst []byte, q *wire.Query, rcode wire.Rcode, o Options) Reply {
	msg := wire.Begin(dst, q, wire.FlagAA, rcode)
	msg = z.appendSOA(msg, uint16(wire.HeaderLen+q.Offset(q.Labels()-z.c.labels)))
	return Reply{Rcode: rcode, Msg: wire.Finish(msg, q, wire.Counts{Authority: 1}, o.Limit)}
}

// answerReverse answers PTR for addresses of Services and of endpoints. All
// other reverse names are somebody else's.
func (z *Zone) answerReverse(dst []byte, q *wire.Query, o Options) Reply {
	if q.Type != wire.TypePTR {
		return Reply{Outcome: NotMine}
	}
	var key [16]byte
	n, reverse := reverseKey(q, &key)
	switch {
	case !reverse:
		return Reply{Outcome: NotMine}
	case !z.synced:
		return Reply{Rcode: wire.ServFail, Msg: wire.Status(dst, q, wire.ServFail)}
	}
	refs, ok := z.reverse.get(key[:n])
	if !ok || n == 0 {
		return Reply{Outcome: NotMine}
	}
	msg := wire.Begin(dst, q, wire.FlagAA, wire.Success)
	counts := wire.Counts{}
	for len(refs) > 0 {
		var of, host []byte
		of, host, refs = cutRef(refs)
		if len(host) == 0 {
			refs = nil // a cluster IP is one Service's
		}
		var buf [maxAddrLabel]byte
		label := host
		if string(host) == byAddr {
			a, _ := netip.AddrFromSlice(key[:n])
			label = appendAddrLabel(buf[:0], a)
		}
		size := len(of) + len(svcLabel) + len(z.c.domain)
		if len(label) > 0 {
			size += 1 + len(label)
		}
		if len(msg)-q.End()+12+size > maxRecords {
			break
		}
		msg = wire.AppendRR(msg, wire.HeaderLen, wire.RR{Type: wire.TypePTR, TTL: z.c.TTL, Size: size})
		if len(label) > 0 {
			msg = append(append(msg, byte(len(label))), label...)
		}
		msg = append(append(append(msg, of...), svcLabel...), z.c.domain...)
		counts.Answer++
	}
	return Reply{Msg: wire.Finish(msg, q, counts, o.Limit)}
}

// answerExternal answers for an ExternalName: the CNAME, and for an address
// query what it leads to. A chain that ends in nothing within the zone, or in
// itself, is NODATA as upstream.
func (z *Zone) answerExternal(dst []byte, q *wire.Query, target []byte, o Options) Reply {
	if q.Type != wire.TypeA && q.Type != wire.TypeAAAA && q.Type != wire.TypeCNAME {
		return z.negative(dst, q, wire.Success, o)
	}
	msg := wire.Begin(dst, q, wire.FlagAA, wire.Success)
	owner := uint16(wire.HeaderLen)
	var hop wire.Query
	for n := uint16(1); n <= maxChain; n++ {
		msg = wire.AppendRR(msg, owner, wire.RR{Type: wire.TypeCNAME, TTL: z.c.TTL, Size: len(target)})
		owner = uint16(len(msg))
		msg = append(msg, target...)
		if q.Type == wire.TypeCNAME {
			return Reply{Msg: wire.Finish(msg, q, wire.Counts{Answer: n}, o.Limit)}
		}
		hop.Set(target, q.Type)
		hopBelow := hop.Labels() - z.c.labels
		if hopBelow < 0 || string(hop.From(hopBelow)) != z.c.domain {
			return Reply{Outcome: Chase, Msg: msg, CNAMEs: n, Target: target}
		}
		next := z.find(&hop, hopBelow)
		if !next.exists {
			break
		}
		if next.s != nil && next.s.is(isExternal) {
			target = next.s.target()
			continue
		}
		begin := len(msg)
		msg, counts := z.appendRecords(msg, &hop, next, o)
		if counts.Answer == 0 {
			break
		}
		for off := begin; off < len(msg); off += recordSize(q.Type == wire.TypeA) {
			binary.BigEndian.PutUint16(msg[off:], 0xC000|owner)
		}
		return Reply{Msg: wire.Finish(msg, q, wire.Counts{Answer: n + counts.Answer}, o.Limit)}
	}
	return z.negative(dst, q, wire.Success, o)
}
