package wire

import (
	"encoding/binary"
	"strconv"
)

// HeaderLen is the length of the DNS header, and so the offset of the question.
const HeaderLen = 12

// Sizes of messages, in bytes.
const (
	// MinUDP is the largest reply to a client without EDNS0 (RFC 1035).
	MinUDP = 512
	// MaxUDP is the largest UDP reply we send and the size we advertise: it
	// fits the IPv6 minimum MTU, so no reply is ever fragmented (DNS flag day 2020).
	MaxUDP = 1232
	// MaxTCP is what the length prefix can say.
	MaxTCP = 65535
	// MaxName is the longest name in wire form, root label included.
	MaxName = 255
	// OptLen is the length of the OPT record we add.
	OptLen = 11
)

// Type is an RR type.
type Type uint16

// The types this package and the zone know by number.
const (
	TypeA     Type = 1
	TypeNS    Type = 2
	TypeCNAME Type = 5
	TypeSOA   Type = 6
	TypePTR   Type = 12
	TypeMX    Type = 15
	TypeTXT   Type = 16
	TypeAAAA  Type = 28
	TypeSRV   Type = 33
	TypeOPT   Type = 41
	TypeHTTPS Type = 65
	TypeIXFR  Type = 251
	TypeAXFR  Type = 252
	TypeANY   Type = 255
)

// ClassIN is the only class that is served.
const ClassIN = 1

// String is the mnemonic of a known type, "TYPEn" (RFC 3597) of another.
func (t Type) String() string {
	switch t {
	case TypeA:
		return "A"
	case TypeNS:
		return "NS"
	case TypeCNAME:
		return "CNAME"
	case TypeSOA:
		return "SOA"
	case TypePTR:
		return "PTR"
	case TypeMX:
		return "MX"
	case TypeTXT:
		return "TXT"
	case TypeAAAA:
		return "AAAA"
	case TypeSRV:
		return "SRV"
	case TypeHTTPS:
		return "HTTPS"
	case TypeIXFR:
		return "IXFR"
	case TypeAXFR:
		return "AXFR"
	case TypeANY:
		return "ANY"
	}
	return "TYPE" + strconv.Itoa(int(t))
}

// Rcode is a response code. BadVers is the only extended one.
type Rcode uint8

// The response codes we send.
const (
	Success  Rcode = 0
	FormErr  Rcode = 1
	ServFail Rcode = 2
	NXDomain Rcode = 3
	NotImp   Rcode = 4
	Refused  Rcode = 5
	BadVers  Rcode = 16
)

// String is the code as dig prints it.
func (r Rcode) String() string {
	switch r {
	case Success:
		return "NOERROR"
	case FormErr:
		return "FORMERR"
	case ServFail:
		return "SERVFAIL"
	case NXDomain:
		return "NXDOMAIN"
	case NotImp:
		return "NOTIMP"
	case Refused:
		return "REFUSED"
	case BadVers:
		return "BADVERS"
	}
	return "RCODE" + strconv.Itoa(int(r))
}

// Header flags, as bits of the second 16-bit word.
const (
	FlagQR uint16 = 1 << 15
	FlagAA uint16 = 1 << 10
	FlagTC uint16 = 1 << 9
	FlagRD uint16 = 1 << 8
	FlagRA uint16 = 1 << 7
	FlagAD uint16 = 1 << 5
	FlagCD uint16 = 1 << 4

	opcodeMask uint16 = 0xF << 11
)

// RR is the fixed part of a record: all but its owner and its data, which is Size bytes long.
type RR struct {
	Type Type
	TTL  uint32
	Size int
}

// AppendRR appends the fixed part of a record whose owner is a pointer to
// offset owner. The caller appends the data.
func AppendRR(dst []byte, owner uint16, rr RR) []byte {
	dst = binary.BigEndian.AppendUint16(dst, 0xC000|owner)
	return rr.append(dst)
}

// AppendNamedRR is AppendRR with an owner written out in wire form.
func AppendNamedRR(dst, owner []byte, rr RR) []byte { return rr.append(append(dst, owner...)) }

func (rr RR) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(rr.Type))
	dst = binary.BigEndian.AppendUint16(dst, ClassIN)
	dst = binary.BigEndian.AppendUint32(dst, rr.TTL)
	return binary.BigEndian.AppendUint16(dst, uint16(rr.Size))
}

// SkipName gives the offset behind the name at off, which may end in a
// pointer; ok is false when the name runs out of the message.
func SkipName(msg []byte, off int) (next int, ok bool) {
	for off < len(msg) {
		switch c := int(msg[off]); {
		case c == 0:
			return off + 1, true
		case c&0xC0 == 0xC0:
			return off + 2, off+2 <= len(msg)
		case c&0xC0 != 0:
			return 0, false
		default:
			off += 1 + c
		}
	}
	return 0, false
}

// SkipRR gives the offset behind the record at off and where its fixed part
// begins; ok is false when the record runs out of the message.
func SkipRR(msg []byte, off int) (fixed, next int, ok bool) {
	fixed, ok = SkipName(msg, off)
	if !ok || fixed+10 > len(msg) {
		return 0, 0, false
	}
	next = fixed + 10 + int(binary.BigEndian.Uint16(msg[fixed+8:]))
	return fixed, next, next <= len(msg)
}
