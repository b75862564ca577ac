package zone

import (
	"bytes"
	"net/netip"
	"strings"

	"nodelet/internal/model"
)

// wireName gives a dotted name in wire form with the root label; ok is false
// when a label is empty or too long or the name does not fit 255 bytes.
func wireName(dotted string) (name []byte, ok bool) {
	dotted = strings.TrimSuffix(dotted, ".")
	if dotted == "" {
		return []byte{0}, true
	}
	for label := range strings.SplitSeq(dotted, ".") {
		if !validLabel(label) {
			return nil, false
		}
		name = appendLabel(name, label)
	}
	name = append(name, 0)
	return name, len(name) <= 255
}

func validLabel(s string) bool { return s != "" && len(s) <= 63 && !strings.Contains(s, ".") }

func appendLabel(dst []byte, label string) []byte {
	dst = append(dst, byte(len(label)))
	return append(dst, label...)
}

// serviceKey is the name of a Service below "svc": its two labels in wire form.
func serviceKey(k model.Key) (string, bool) {
	name, ns := strings.ToLower(k.Name), strings.ToLower(k.Namespace)
	if !validLabel(name) || !validLabel(ns) {
		return "", false
	}
	return string(appendLabel(appendLabel(make([]byte, 0, len(name)+len(ns)+2), name), ns)), true
}

// hostLabel is the label of an endpoint below its Service: the hostname, else
// the address. named says which.
func hostLabel(e *model.Endpoint) (label string, named bool) {
	if validLabel(e.Hostname) {
		return strings.ToLower(e.Hostname), true
	}
	var buf [maxAddrLabel]byte
	return string(appendAddrLabel(buf[:0], endpointAddr(e))), false
}

func endpointAddr(e *model.Endpoint) netip.Addr { return e.Addr.Unmap().WithZone("") }

// maxAddrLabel is the longest text of an address, with a digit to spare.
const maxAddrLabel = 46

// appendAddrLabel appends an address with dashes, as CoreDNS writes it.
func appendAddrLabel(dst []byte, a netip.Addr) []byte {
	begin := len(dst)
	dst = a.AppendTo(dst)
	for i, c := range dst[begin:] {
		if c == '.' || c == ':' {
			dst[begin+i] = '-'
		}
	}
	if dst[len(dst)-1] == '-' {
		dst = append(dst, '0')
	}
	return dst
}

// labelAddr reads what appendAddrLabel writes, and nothing else.
func labelAddr(label []byte) (netip.Addr, bool) {
	if a, ok := podAddr4(label); ok {
		return a, true
	}
	a, ok := podAddr(label)
	var buf [maxAddrLabel]byte
	return a, ok && bytes.Equal(appendAddrLabel(buf[:0], a), label)
}

// podAddr reads the label of a pod record, "10-244-0-5" or "fd00--5".
func podAddr(label []byte) (netip.Addr, bool) {
	if a, ok := podAddr4(label); ok {
		return a, true
	}
	var buf [maxAddrLabel]byte
	if len(label) > len(buf) {
		return netip.Addr{}, false
	}
	for i, c := range label {
		if c == '-' {
			c = ':'
		}
		buf[i] = c
	}
	a, err := netip.ParseAddr(string(buf[:len(label)]))
	return a, err == nil && a.Zone() == "" && !a.Is4In6()
}

func podAddr4(label []byte) (netip.Addr, bool) {
	var ip [4]byte
	for i := range ip {
		part := label
		if i < 3 {
			end := bytes.IndexByte(label, '-')
			if end < 0 {
				return netip.Addr{}, false
			}
			part, label = label[:end], label[end+1:]
		}
		v, ok := octet(part)
		if !ok {
			return netip.Addr{}, false
		}
		ip[i] = v
	}
	return netip.AddrFrom4(ip), true
}

// The two trees of reverse names.
const (
	arpa4 = "\x07in-addr\x04arpa\x00"
	arpa6 = "\x03ip6\x04arpa\x00"
)

// nameOf is the part of a query that reverseKey needs.
type nameOf interface {
	Labels() int
	Label(int) []byte
	From(int) []byte
}

// reverseKey reads a reverse name into the bytes of the address it stands for.
// reverse says that the name is in one of the reverse trees; n is 0 when it
// does not stand for one whole address.
func reverseKey(q nameOf, key *[16]byte) (n int, reverse bool) {
	labels := q.Labels()
	if labels < 2 {
		return 0, false
	}
	switch string(q.From(labels - 2)) {
	case arpa4:
		if labels != 4+2 {
			return 0, true
		}
		for i := range 4 {
			v, ok := octet(q.Label(i))
			if !ok {
				return 0, true
			}
			key[3-i] = v
		}
		return 4, true
	case arpa6:
		if labels != 32+2 {
			return 0, true
		}
		for i := range 32 {
			v, ok := nibble(q.Label(i))
			if !ok {
				return 0, true
			}
			key[15-i/2] = key[15-i/2]>>4 | v<<4
		}
		return 16, true
	}
	return 0, false
}

func octet(label []byte) (byte, bool) {
	if len(label) == 0 || len(label) > 3 || len(label) > 1 && label[0] == '0' {
		return 0, false
	}
	v := 0
	for _, c := range label {
		if c < '0' || c > '9' {
			return 0, false
		}
		v = v*10 + int(c-'0')
	}
	return byte(v), v <= 255
}

func nibble(label []byte) (byte, bool) {
	if len(label) != 1 {
		return 0, false
	}
	switch c := label[0]; {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}

// addrKey is the key of an address in the reverse index.
func addrKey(a netip.Addr) string { return string(a.Unmap().AsSlice()) }

// appendAddrKey appends the same without allocating.
func appendAddrKey(dst []byte, a netip.Addr) []byte {
	if a.Is4() {
		b := a.As4()
		return append(dst, b[:]...)
	}
	b := a.As16()
	return append(dst, b[:]...)
}
