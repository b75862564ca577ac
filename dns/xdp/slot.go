package xdp

import (
	"encoding/binary"
	"net/netip"

	"nodelet/dns/wire"
	"nodelet/dns/zone"
)

const (
	// maxName is NAME of bpf/answer.c.
	maxName = len(answerSlot{}.Name) * 8
	// maxLabels is one less than LABELS: the root label is read as well.
	maxLabels = 11
	maxBody   = len(answerSlot{}.Body)
	// maxServers is SERVERS.
	maxServers = 8
)

// encode gives what the kernel is to answer at a name; ok is false when the name is too long for it.
func encode(p *zone.Packed) (s answerSlot, ok bool) {
	if s.Name, ok = encodeName(p.Name); !ok {
		return s, false
	}
	room := maxBody
	fits := func(r *zone.Records, bit answerElsewhere) []byte {
		if r.Unpacked || len(r.Data) > room {
			s.Elsewhere |= uint8(bit)
			return nil
		}
		room -= len(r.Data)
		return r.Data
	}
	// Addresses are what is asked for; SRV has what they leave.
	v4, v6 := fits(&p.V4, answerElsewhereV4ELSEWHERE), fits(&p.V6, answerElsewhereV6ELSEWHERE)
	srv := fits(&p.SRV, answerElsewhereSRV_ELSEWHERE)
	n := copy(s.Body[:], srv)
	if n > 0 {
		s.SrvLen, s.Srv, s.Extras = uint16(n), uint8(p.SRV.Answer), uint8(p.SRV.Extras)
	}
	if len(v4) > 0 {
		s.V4At, s.V4 = uint8(n), uint8(p.V4.Answer)
		n += copy(s.Body[n:], v4)
	}
	if len(v6) > 0 {
		s.V6At, s.V6 = uint8(n), uint8(p.V6.Answer)
		copy(s.Body[n:], v6)
	}
	return s, true
}

// encodeName gives a name in wire form and lower case as the words that the program compares.
func encodeName(name []byte) (words [maxName / 8]uint64, ok bool) {
	labels := 0
	for off := 0; off < len(name) && name[off] != 0; off += 1 + int(name[off]) {
		labels++
	}
	if len(name) > maxName || labels > maxLabels {
		return words, false
	}
	var b [maxName]byte
	copy(b[:], name)
	for i := range words {
		words[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return words, true
}

// hash is hash_name of bpf/answer.c. Words of zeros behind the name do not count.
func hash(words *[maxName / 8]uint64, nameLen int) uint64 {
	h := uint64(0xcbf29ce484222325)
	for _, w := range words[:(nameLen+7)/8] {
		h = (h ^ w) * 0x9e3779b97f4a7c15
		h ^= h >> 29
	}
	return h
}

// has reports whether the slot has the answer to q.
func (s *answerSlot) has(q *wire.Query) bool {
	name, ok := encodeName(q.Name())
	if !ok || s.Name != name || q.Class != wire.ClassIN {
		return false
	}
	switch q.Type {
	case wire.TypeA:
		return s.Elsewhere&uint8(answerElsewhereV4ELSEWHERE) == 0
	case wire.TypeAAAA:
		return s.Elsewhere&uint8(answerElsewhereV6ELSEWHERE) == 0
	case wire.TypeSRV:
		return s.Elsewhere&uint8(answerElsewhereSRV_ELSEWHERE) == 0
	case wire.TypeTXT, wire.TypeMX, wire.TypeHTTPS:
		return true
	}
	return false
}

// asked names the types that the program counts.
var asked = [answerAskedASKED_TYPES]string{
	answerAskedASKED_A: "A", answerAskedASKED_AAAA: "AAAA", answerAskedASKED_SRV: "SRV",
	answerAskedASKED_TXT: "TXT", answerAskedASKED_MX: "MX", answerAskedASKED_HTTPS: "HTTPS",
}

// encodeServers gives the IPv4 addresses among addrs as the program compares
// them, and how many there are, though there be no room for all.
func encodeServers(addrs []netip.Addr) (out [maxServers]uint32, n int) {
	for _, a := range addrs {
		if !a.Is4() {
			continue
		}
		if b := a.As4(); n < maxServers {
			out[n] = binary.NativeEndian.Uint32(b[:])
		}
		n++
	}
	return out, n
}
