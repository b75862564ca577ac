package nft

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// offsetAttr is NLMSGERR_ATTR_OFFS: where in the message the attribute is that was refused.
const offsetAttr = 2

// refused says what the kernel refused: the change, and of several elements
// the one, as far as the kernel tells.
func (tx *Tx) refused(m reply) string {
	if m.seq == 0 || int(m.seq) > len(tx.ops) {
		return "begin transaction"
	}
	o := tx.ops[m.seq-1]
	if o.set == nil {
		return o.String()
	}
	el, ok := elementAt(tx.sent(m.seq), m.offset())
	if !ok {
		return o.String()
	}
	return fmt.Sprintf("%s element %s of %s %s", o.verb, o.set.Key.format(el.Key), o.table, o.name)
}

// sent gives a message by its number.
func (tx *Tx) sent(seq uint32) []byte {
	b := tx.e.b[tx.ops[seq-1].at:]
	return b[:binary.NativeEndian.Uint32(b)]
}

// elementAt reads the element that an attribute of a message is.
func elementAt(message []byte, offset uint32) (el Element, ok bool) {
	if offset == 0 || int(offset)+4 > len(message) {
		return el, false
	}
	b := message[offset:]
	n := int(binary.NativeEndian.Uint16(b))
	if n < 4 || n > len(b) || binary.NativeEndian.Uint16(b[2:]) != unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED {
		return el, false
	}
	el, _ = parseElement(b[4:n], &Bulk{})
	return el, el.Key != nil
}

// offset is where the kernel found what it refused; 0 when it does not say.
func (m reply) offset() (at uint32) {
	m.hints(func(typ uint16, v []byte) {
		if typ == offsetAttr && len(v) >= 4 {
			at = binary.NativeEndian.Uint32(v)
		}
	})
	return at
}
