package zone

import (
	"bytes"
	"encoding/binary"
	"iter"
	"math/bits"

	"nodelet/internal/model"
)

// record is a compiled Service as the index keeps it: all in one run of bytes,
// so that a lookup waits for one place of memory. It is written once by
// appendRecord and read in place:
//
//	flags      1
//	ports      4  their number
//	body       4  its length
//	answers    12 each: of IPv4, IPv6 and SRV at the Service's own name, those that it has
//	body          packed records, or the target of an ExternalName
//	ports         name, protocol (1), 3 answers
//	hosts         with hasHosts: length (4), number (4), offset (4) of each, then label and 2 answers of each
//	slices        namespace (empty: the Service's) and name of each, to the end
//
// Numbers are little endian, texts as appendText writes them.
type record []byte

// The flags. The three of answers come first: their number gives where the body is.
const (
	hasV4 = 1 << iota
	hasV6
	hasSRV
	isPresent
	isExisting
	isExternal
	hasHosts

	answerFlags = hasV4 | hasV6 | hasSRV
)

const (
	recordHead = 1 + 4 + 4
	answerSize = 4 + 4 + 2 + 2
)

func appendAnswer(dst []byte, a answer) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, a.off)
	dst = binary.LittleEndian.AppendUint32(dst, a.size)
	dst = binary.LittleEndian.AppendUint16(dst, a.count)
	return binary.LittleEndian.AppendUint16(dst, a.extras)
}

func readAnswer(b []byte) answer {
	_ = b[answerSize-1]
	return answer{
		off: binary.LittleEndian.Uint32(b), size: binary.LittleEndian.Uint32(b[4:]),
		count: binary.LittleEndian.Uint16(b[8:]), extras: binary.LittleEndian.Uint16(b[10:]),
	}
}

// appendText appends a text so that cutText finds its end.
func appendText(dst []byte, text string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(text))), text...)
}

// cutText takes the first text off b.
func cutText(b []byte) (text, rest []byte) {
	n, head := binary.Uvarint(b)
	end := head + int(n)
	return b[head:end:end], b[end:]
}

// appendRecord appends the record of s.
func (s *service) appendRecord(dst []byte) []byte {
	flags := s.flags()
	dst = append(dst, flags)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(s.ports)))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(s.body)))
	for _, a := range []answer{s.v4, s.v6, s.srv} {
		if a.count > 0 {
			dst = appendAnswer(dst, a)
		}
	}
	dst = append(dst, s.body...)
	for i := range s.ports {
		p := &s.ports[i]
		dst = append(appendText(dst, p.name), byte(p.protocol))
		dst = appendAnswer(appendAnswer(appendAnswer(dst, p.v4), p.v6), p.srv)
	}
	if flags&hasHosts != 0 {
		at := len(dst)
		dst = s.appendHosts(binary.LittleEndian.AppendUint32(dst, 0))
		binary.LittleEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	}
	for _, sl := range s.slices {
		ns := sl.Key.Namespace
		if ns == string(namespaceOf([]byte(s.key))) {
			ns = ""
		}
		dst = appendText(appendText(dst, ns), sl.Key.Name)
	}
	return dst
}

func (s *service) flags() (flags byte) {
	for i, is := range [...]bool{s.v4.count > 0, s.v6.count > 0, s.srv.count > 0, s.present, s.exists, s.external, len(s.hosts) > 0} {
		if is {
			flags |= 1 << i // in the order of the constants
		}
	}
	return flags
}

func (s *service) appendHosts(dst []byte) []byte {
	begin := len(dst)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(s.hosts)))
	dst = append(dst, make([]byte, 4*len(s.hosts))...)
	for i := range s.hosts {
		h := &s.hosts[i]
		binary.LittleEndian.PutUint32(dst[begin+4+4*i:], uint32(len(dst)-begin))
		dst = appendAnswer(appendAnswer(appendText(dst, h.label), h.v4), h.v6)
	}
	return dst
}

func (r record) is(flag byte) bool { return r[0]&flag != 0 }

// own gives the answers at the Service's own name.
func (r record) own() (v4, v6, srv answer) {
	at := recordHead
	if r.is(hasV4) {
		v4 = readAnswer(r[at:])
		at += answerSize
	}
	if r.is(hasV6) {
		v6 = readAnswer(r[at:])
		at += answerSize
	}
	if r.is(hasSRV) {
		srv = readAnswer(r[at:])
	}
	return v4, v6, srv
}

// split gives the body and what is behind it.
func (r record) split() (body, rest []byte) {
	at := recordHead + answerSize*bits.OnesCount8(r[0]&answerFlags)
	end := at + int(binary.LittleEndian.Uint32(r[5:]))
	return r[at:end:end], r[end:]
}

// target is that of an ExternalName, in wire form; nil when there is none.
func (r record) target() []byte {
	if !r.is(isExternal) || !r.is(isExisting) {
		return nil
	}
	body, _ := r.split()
	return body
}

// data gives the packed records of an answer.
func (r record) data(a answer) []byte {
	body, _ := r.split()
	end := a.off + a.size
	return body[a.off:end:end]
}

// portView is a port of a record, its name without copying it.
type portView struct {
	name        []byte
	protocol    model.Protocol
	v4, v6, srv answer
}

// ports yields the ports in the order in which they were compiled.
func (r record) ports() iter.Seq[portView] {
	return func(yield func(portView) bool) {
		_, b := r.split()
		for range binary.LittleEndian.Uint32(r[1:]) {
			var p portView
			if p, b = cutPort(b); !yield(p) {
				return
			}
		}
	}
}

func cutPort(b []byte) (p portView, rest []byte) {
	p.name, rest = cutText(b)
	p.protocol = model.Protocol(rest[0])
	p.v4, p.v6, p.srv = readAnswer(rest[1:]), readAnswer(rest[1+answerSize:]), readAnswer(rest[1+2*answerSize:])
	return p, rest[1+3*answerSize:]
}

// behindPorts gives the section of the hosts and that of the slices.
func (r record) behindPorts() (hosts, list []byte) {
	_, b := r.split()
	for range binary.LittleEndian.Uint32(r[1:]) {
		_, b = cutPort(b)
	}
	if !r.is(hasHosts) {
		return nil, b
	}
	end := 4 + binary.LittleEndian.Uint32(b)
	return b[4:end], b[end:]
}

// hostView is a host of a record, its label without copying it.
type hostView struct {
	label  []byte
	v4, v6 answer
}

// hostTable is the section of the hosts.
type hostTable []byte

func (t hostTable) len() int {
	if len(t) == 0 {
		return 0
	}
	return int(binary.LittleEndian.Uint32(t))
}

func (t hostTable) at(i int) (h hostView) {
	var rest []byte
	h.label, rest = cutText(t[binary.LittleEndian.Uint32(t[4+4*i:]):])
	h.v4, h.v6 = readAnswer(rest), readAnswer(rest[answerSize:])
	return h
}

// find gives the host with that label.
func (t hostTable) find(label []byte) (h hostView, ok bool) {
	low, high := 0, t.len()
	for low < high {
		mid := (low + high) / 2
		h := t.at(mid)
		switch bytes.Compare(h.label, label) {
		case 0:
			return h, true
		case -1:
			low = mid + 1
		default:
			high = mid
		}
	}
	return hostView{}, false
}

// sliceKeys yields the keys of the slices of the Service with that key, in their order.
func (r record) sliceKeys(key []byte) iter.Seq[model.Key] {
	return func(yield func(model.Key) bool) {
		_, b := r.behindPorts()
		for len(b) > 0 {
			var ns, name []byte
			ns, b = cutText(b)
			name, b = cutText(b)
			if len(ns) == 0 {
				ns = namespaceOf(key)
			}
			if !yield(model.Key{Namespace: string(ns), Name: string(name)}) {
				return
			}
		}
	}
}

// namespaceOf is the second label of the key of a Service.
func namespaceOf(key []byte) []byte { return key[1+key[0]+1:] }
