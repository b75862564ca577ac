package wire

import "encoding/binary"

// Verdict is what is to be done with a packet that arrived as a query.
type Verdict uint8

// The verdicts. All but Accept and Drop are answered with Reject.
const (
	Accept Verdict = iota
	// Drop: not even an error may be sent, or two servers could answer each other for ever.
	Drop
	RejectFormat
	RejectOpcode
	RejectVersion
)

// Query is one parsed query. It refers to no other memory, so a copy of the
// value outlives the packet. Reuse it: it is large.
type Query struct {
	ID    uint16
	Flags uint16
	Type  Type
	Class uint16

	// EDNS0: whether the query had an OPT record, and what it said.
	EDNS    bool
	DO      bool
	UDPSize uint16

	name    [MaxName]byte     // wire form, lower case
	asked   [MaxName + 4]byte // the question as it came: name, type, class
	nameLen uint8
	labels  uint8
	offsets [MaxName / 2]uint8 // of each label in name
}

// Name is the queried name in lower case in wire form, root label included.
// It is valid until the Query is parsed again.
func (q *Query) Name() []byte { return q.name[:q.nameLen] }

// Question is the question section as it came.
func (q *Query) Question() []byte { return q.asked[:int(q.nameLen)+4] }

// Labels is the number of labels, the root not counted.
func (q *Query) Labels() int { return int(q.labels) }

// Label gives the i-th label from the left in lower case, without its length.
func (q *Query) Label(i int) []byte {
	off := int(q.offsets[i])
	return q.name[off+1 : off+1+int(q.name[off])]
}

// From gives the name in wire form from the i-th label on; i may be Labels().
func (q *Query) From(i int) []byte { return q.name[q.Offset(i):q.nameLen] }

// Between gives the labels i to j-1 in wire form.
func (q *Query) Between(i, j int) []byte { return q.name[q.Offset(i):q.Offset(j)] }

// Offset is where the i-th label begins within the name; add HeaderLen for a pointer.
func (q *Query) Offset(i int) int {
	if i >= int(q.labels) {
		return int(q.nameLen) - 1
	}
	return int(q.offsets[i])
}

// End is the length of header and question: where the records of a reply begin.
func (q *Query) End() int { return HeaderLen + int(q.nameLen) + 4 }

// Limit is the largest reply the client takes.
func (q *Query) Limit(tcp bool) int {
	if tcp {
		return MaxTCP
	}
	if !q.EDNS {
		return MinUDP
	}
	return min(max(int(q.UDPSize), MinUDP), MaxUDP)
}

// Parse reads a packet into q. After a verdict other than Accept only ID,
// Flags and, when the question was readable, Question are set.
func (q *Query) Parse(msg []byte) Verdict {
	q.nameLen, q.labels, q.EDNS, q.DO, q.UDPSize = 0, 0, false, false, 0
	if len(msg) < HeaderLen {
		return Drop
	}
	q.ID = binary.BigEndian.Uint16(msg)
	q.Flags = binary.BigEndian.Uint16(msg[2:])
	if q.Flags&FlagQR != 0 {
		return Drop
	}
	if q.Flags&opcodeMask != 0 {
		return RejectOpcode
	}
	questions := binary.BigEndian.Uint16(msg[4:])
	records := int(binary.BigEndian.Uint16(msg[6:])) + int(binary.BigEndian.Uint16(msg[8:]))
	extra := int(binary.BigEndian.Uint16(msg[10:]))
	if questions != 1 || !q.parseQuestion(msg) {
		return RejectFormat
	}
	// An IXFR query carries one SOA; nothing else has records before the additional section.
	if records > 1 || extra > 2 {
		return RejectFormat
	}
	return q.parseExtra(msg, records, extra)
}

// parseQuestion reads name, type and class. Pointers are refused: there is
// nothing before the first name that one could point to.
func (q *Query) parseQuestion(msg []byte) bool {
	off, n := HeaderLen, 0
	for {
		if off >= len(msg) {
			return false
		}
		c := int(msg[off])
		if c == 0 {
			break
		}
		if c > 63 || n+1+c+1 > MaxName || off+1+c > len(msg) {
			return false
		}
		q.offsets[q.labels] = uint8(n)
		q.labels++
		q.name[n] = byte(c)
		for i := 1; i <= c; i++ {
			q.name[n+i] = lower(msg[off+i])
		}
		n += 1 + c
		off += 1 + c
	}
	q.name[n] = 0
	off++
	if off+4 > len(msg) {
		return false
	}
	q.nameLen = uint8(n + 1)
	copy(q.asked[:], msg[HeaderLen:off+4])
	q.Type = Type(binary.BigEndian.Uint16(msg[off:]))
	q.Class = binary.BigEndian.Uint16(msg[off+2:])
	return true
}

// parseExtra walks the records behind the question and reads the OPT record.
// Options in it (cookies, client subnet, padding) are tolerated and ignored.
func (q *Query) parseExtra(msg []byte, records, extra int) Verdict {
	off := q.End()
	for i := range records + extra {
		fixed, next, ok := SkipRR(msg, off)
		if !ok {
			return RejectFormat
		}
		if i >= records && Type(binary.BigEndian.Uint16(msg[fixed:])) == TypeOPT {
			if q.EDNS || fixed != off+1 {
				return RejectFormat // a second OPT, or one with an owner
			}
			q.EDNS = true
			q.UDPSize = binary.BigEndian.Uint16(msg[fixed+2:])
			q.DO = msg[fixed+6]&0x80 != 0
			if msg[fixed+5] != 0 {
				return RejectVersion
			}
		}
		off = next
	}
	return Accept
}

func lower(c byte) byte {
	if c-'A' < 26 {
		return c + 'a' - 'A'
	}
	return c
}

// Set makes q a query for a name in wire form, in lower case, without EDNS0.
func (q *Query) Set(name []byte, t Type) {
	q.ID, q.Flags, q.Type, q.Class = 0, FlagRD, t, ClassIN
	q.EDNS, q.DO, q.UDPSize = false, false, 0
	q.nameLen, q.labels = uint8(len(name)), 0
	copy(q.name[:], name)
	for off := 0; off < len(name) && name[off] != 0; off += 1 + int(name[off]) {
		q.offsets[q.labels] = uint8(off)
		q.labels++
	}
	n := copy(q.asked[:], name)
	binary.BigEndian.PutUint16(q.asked[n:], uint16(t))
	binary.BigEndian.PutUint16(q.asked[n+2:], ClassIN)
}
