package nft

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// encoder appends netlink messages and attributes to one buffer.
type encoder struct{ b []byte }

// begin starts a netlink message with the netfilter header; end closes it.
func (e *encoder) begin(typ, flags uint16, family Family, seq uint32) int {
	at := len(e.b)
	e.b = append(e.b, 0, 0, 0, 0)
	e.b = binary.NativeEndian.AppendUint16(e.b, typ)
	e.b = binary.NativeEndian.AppendUint16(e.b, flags)
	e.b = binary.NativeEndian.AppendUint32(e.b, seq)
	e.b = append(e.b, 0, 0, 0, 0) // port id: the kernel's to fill in
	e.b = append(e.b, byte(family), 0, 0, 0)
	return at
}

func (e *encoder) end(at int) {
	binary.NativeEndian.PutUint32(e.b[at:], uint32(len(e.b)-at))
}

// nest starts an attribute that holds attributes; endNest closes it.
func (e *encoder) nest(typ uint16) int {
	at := len(e.b)
	e.b = append(e.b, 0, 0)
	e.b = binary.NativeEndian.AppendUint16(e.b, typ|unix.NLA_F_NESTED)
	return at
}

func (e *encoder) endNest(at int) {
	binary.NativeEndian.PutUint16(e.b[at:], uint16(len(e.b)-at))
}

func (e *encoder) bytes(typ uint16, v []byte) {
	e.b = binary.NativeEndian.AppendUint16(e.b, uint16(4+len(v)))
	e.b = binary.NativeEndian.AppendUint16(e.b, typ)
	e.b = append(e.b, v...)
	e.pad()
}

func (e *encoder) str(typ uint16, v string) {
	e.b = binary.NativeEndian.AppendUint16(e.b, uint16(5+len(v)))
	e.b = binary.NativeEndian.AppendUint16(e.b, typ)
	e.b = append(e.b, v...)
	e.b = append(e.b, 0)
	e.pad()
}

func (e *encoder) u32(typ uint16, v uint32) {
	e.b = append(e.b, 0, 0, 0, 0, 0, 0, 0, 0)
	b := e.b[len(e.b)-8:]
	binary.NativeEndian.PutUint16(b, 8)
	binary.NativeEndian.PutUint16(b[2:], typ)
	binary.BigEndian.PutUint32(b[4:], v)
}

func (e *encoder) u64(typ uint16, v uint64) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], v)
	e.bytes(typ, b[:])
}

func (e *encoder) pad() {
	for len(e.b)%4 != 0 {
		e.b = append(e.b, 0)
	}
}

// value appends an attribute that holds NFTA_DATA_VALUE.
func (e *encoder) value(typ uint16, v []byte) {
	at := e.nest(typ)
	e.bytes(unix.NFTA_DATA_VALUE, v)
	e.endNest(at)
}

// attrs walks the attributes in b. Malformed input ends the walk: it comes
// from the kernel, and whoever misses an attribute says so.
func attrs(b []byte, each func(typ uint16, v []byte)) {
	for len(b) >= 4 {
		n := int(binary.NativeEndian.Uint16(b))
		if n < 4 || n > len(b) {
			return
		}
		each(binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[4:n])
		b = b[min((n+3)&^3, len(b)):]
	}
}

// be32 reads a big-endian number; 0 when the attribute is too short.
func be32(v []byte) uint32 {
	if len(v) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(v)
}

func be64(v []byte) uint64 {
	if len(v) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(v)
}

// cstr reads a string with or without its terminator.
func cstr(v []byte) string {
	for i, c := range v {
		if c == 0 {
			return string(v[:i])
		}
	}
	return string(v)
}
