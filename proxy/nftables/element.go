package nftables

import (
	"encoding/binary"
	"net/netip"

	"nodelet/internal/model"
	"nodelet/internal/nft"
	"nodelet/proxy/lb"
)

// row is what sets a frontend is a member of.
type row struct {
	// plan names its plan; empty for what is named by an address alone.
	plan string
	// elsewhere: a ClusterIP that is not balanced here.
	elsewhere bool
	// dispatched: it is a member of frontends.
	dispatched bool
	// handed: it is a member of handed-to-ipvs.
	handed bool
	// kept is what remembers its clients; nil for nothing.
	kept *kept
}

// pool names a list of endpoints.
type pool struct {
	lb.Frontend
	local bool
}

func (p pool) slot(i int) uint32 {
	if p.local {
		return localSlots + uint32(i)
	}
	return uint32(i)
}

// appendAddr and appendKey do what nft.Bytes does, without a detour over
// interfaces: there are many elements.
func appendAddr(b []byte, a netip.Addr) []byte {
	if a.Is4() {
		four := a.As4()
		return append(b, four[:]...)
	}
	sixteen := a.As16()
	return append(b, sixteen[:]...)
}

func appendKey(b []byte, f lb.Frontend) []byte {
	if !f.NodePort() {
		b = appendAddr(b, f.Addr)
	}
	return append(b, byte(f.Proto), 0, 0, 0, byte(f.Port>>8), byte(f.Port), 0, 0)
}

// Lengths of a key's port and protocol, of a slot, and of data's port.
const (
	portBytes = 8
	slotBytes = 4
	toBytes   = 4
)

func keyBytes(f lb.Frontend) int {
	if f.NodePort() {
		return portBytes
	}
	return f.Addr.BitLen()/8 + portBytes
}

func frontendKey(memory *nft.Bulk, f lb.Frontend) []byte {
	return appendKey(memory.Room(keyBytes(f)), f)
}

func endpointElement(memory *nft.Bulk, p pool, i int, to netip.AddrPort) nft.Element {
	n := slotBytes + keyBytes(p.Frontend)
	b := binary.NativeEndian.AppendUint32(memory.Room(n+to.Addr().BitLen()/8+toBytes), p.slot(i))
	b = appendKey(b, p.Frontend)
	b = append(appendAddr(b, to.Addr()), byte(to.Port()>>8), byte(to.Port()), 0, 0)
	return nft.Element{Key: b[:n:n], Data: b[n:]}
}

func loopElement(a netip.Addr) nft.Element { return nft.Element{Key: nft.Bytes(a, a)} }

func sourceElement(f lb.Frontend, p netip.Prefix) nft.Element {
	key := func(a []byte) []byte { return append(frontendKey(&nft.Bulk{}, f), a...) }
	el := nft.Element{Key: key(p.Masked().Addr().AsSlice())}
	if p.Bits() < p.Addr().BitLen() {
		el.KeyEnd = key(lastOf(p))
	}
	return el
}

// lastOf is the last address of a prefix.
func lastOf(p netip.Prefix) []byte {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return b
}

func (f *family) any() netip.Addr {
	if f.ipv6 {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

func (f *family) bytes() int { return int(f.words) * 4 }

func (f *family) addrAt(b []byte, at int) netip.Addr {
	a, _ := netip.AddrFromSlice(b[at : at+f.bytes()])
	return a
}

func portAt(b []byte, at int) uint16 { return uint16(b[at])<<8 | uint16(b[at+1]) }

// The decoders give ok=false for what is not ours.

// decodeFrontend reads a frontend with which a key ends.
func (f *family) decodeFrontend(key []byte, nodePort bool) (fe lb.Frontend, ok bool) {
	fe.Addr = f.any()
	if !nodePort {
		if len(key) < f.bytes() {
			return fe, false
		}
		fe.Addr, key = f.addrAt(key, 0), key[f.bytes():]
	}
	if len(key) != 8 {
		return fe, false
	}
	fe.Proto, fe.Port = model.Protocol(key[0]), portAt(key, 4)
	return fe, true
}

func (f *family) decodeTarget(b []byte) (netip.AddrPort, bool) {
	if len(b) != f.bytes()+4 {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(f.addrAt(b, 0), portAt(b, f.bytes())), true
}

func (f *family) decodeEndpoint(el *nft.Element, nodePort bool) (p pool, slot int, to netip.AddrPort, ok bool) {
	if len(el.Key) < 4 {
		return p, 0, to, false
	}
	n := nft.NumberAt(el.Key, 0)
	fe, okKey := f.decodeFrontend(el.Key[4:], nodePort)
	to, okTo := f.decodeTarget(el.Data)
	return pool{fe, n >= localSlots}, int(n % localSlots), to, okKey && okTo && n < 2*localSlots
}
