package model

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// A Service or Slice as it is has room for all that few have: some 500 bytes
// with what it points at. Pack writes one into a string of 20 to 100, for tables
// of which little is read. What Unpack gives shares its texts with the string.

// Pack writes all of the Service but its key.
func (s *Service) Pack() string {
	p := make(packer, 0, 128)
	rare := s.ExternalName != "" || len(s.ExternalIPs) > 0 || len(s.LoadBalancer) > 0 || s.AffinityTimeout != 0 ||
		len(s.SourceRanges) > 0 || s.HealthCheckNodePort != 0 || s.TrafficDistribution != "" || s.Algorithm != "" || s.ProxyName != ""
	p.flags(s.Headless, s.InternalLocal, s.ExternalLocal, s.PublishNotReady, s.HeadlessLabel, s.Selectorless, rare)
	p = append(p, byte(s.Type))
	p.text(s.ResourceVersion)
	p.addrs(s.ClusterIPs)
	p.number(len(s.Ports))
	for i := range s.Ports {
		o := &s.Ports[i]
		p.text(o.Name)
		p = append(p, byte(o.Protocol))
		p.number(int(o.Port))
		p.number(int(o.NodePort))
		p.text(o.AppProtocol)
	}
	if rare {
		p.rare(s)
	}
	return string(p)
}

// rare writes what few Services have.
func (p *packer) rare(s *Service) {
	p.text(s.ExternalName)
	p.addrs(s.ExternalIPs)
	p.number(len(s.LoadBalancer))
	for _, in := range s.LoadBalancer {
		p.flags(in.Proxy)
		p.addr(in.IP)
	}
	*p = binary.AppendVarint(*p, int64(s.AffinityTimeout))
	p.number(len(s.SourceRanges))
	for _, r := range s.SourceRanges {
		p.addr(r.Addr())
		p.number(r.Bits() + 1) // -1: not valid
	}
	p.number(int(s.HealthCheckNodePort))
	for _, text := range []string{s.TrafficDistribution, s.Algorithm, s.ProxyName} {
		p.text(text)
	}
}

// UnpackService reads what Pack wrote of the Service with that key.
func UnpackService(key Key, packed string) *Service {
	s, u := &Service{Key: key}, unpacker(packed)
	flags := u.byte()
	s.Headless, s.InternalLocal, s.ExternalLocal, s.PublishNotReady = flags&1 != 0, flags&2 != 0, flags&4 != 0, flags&8 != 0
	s.HeadlessLabel, s.Selectorless = flags&16 != 0, flags&32 != 0
	s.Type = ServiceType(u.byte())
	s.ResourceVersion = u.text()
	s.ClusterIPs = u.addrs()
	s.Ports = list(&u, func() ServicePort {
		return ServicePort{Name: u.text(), Protocol: Protocol(u.byte()), Port: uint16(u.number()), NodePort: uint16(u.number()), AppProtocol: u.text()}
	})
	if flags&64 == 0 {
		return s
	}
	s.ExternalName = u.text()
	s.ExternalIPs = u.addrs()
	s.LoadBalancer = list(&u, func() LoadBalancerIngress {
		proxy := u.byte()&1 != 0
		return LoadBalancerIngress{IP: u.addr(), Proxy: proxy}
	})
	s.AffinityTimeout = time.Duration(u.varint())
	s.SourceRanges = list(&u, func() netip.Prefix {
		a := u.addr()
		return netip.PrefixFrom(a, u.number()-1)
	})
	s.HealthCheckNodePort = uint16(u.number())
	s.TrafficDistribution, s.Algorithm, s.ProxyName = u.text(), u.text(), u.text()
	return s
}

// Pack writes all of the Slice but its key, and of times but what clock they were read from.
func (s *Slice) Pack() string {
	p := make(packer, 0, 128)
	foreign := s.Service.Namespace != s.Key.Namespace
	p.flags(s.IPv6, foreign, !s.Triggered.IsZero(), !s.Arrived.IsZero())
	p.text(s.ResourceVersion)
	if foreign {
		p.text(s.Service.Namespace)
	}
	p.text(s.Service.Name)
	for _, t := range []time.Time{s.Triggered, s.Arrived} {
		if !t.IsZero() {
			p = binary.AppendVarint(p, t.Unix())
			p.number(t.Nanosecond())
		}
	}
	p.number(len(s.Ports))
	for _, o := range s.Ports {
		p.text(o.Name)
		p = append(p, byte(o.Protocol))
		p.number(int(o.Port))
	}
	p.number(len(s.Endpoints))
	for i := range s.Endpoints {
		p.endpoint(&s.Endpoints[i])
	}
	return string(p)
}

func (p *packer) endpoint(e *Endpoint) {
	texts := [...]string{e.Hostname, e.NodeName, e.Zone}
	p.flags(e.Ready, e.Serving, e.Terminating, texts[0] != "", texts[1] != "", texts[2] != "", e.Pod != Key{}, e.Hints != nil)
	p.addr(e.Addr)
	for _, text := range texts {
		if text != "" {
			p.text(text)
		}
	}
	if e.Pod != (Key{}) {
		p.text(e.Pod.Namespace)
		p.text(e.Pod.Name)
	}
	if e.Hints != nil {
		p.texts(e.Hints.zones)
		p.texts(e.Hints.nodes)
	}
}

// UnpackSlice reads what Pack wrote of the Slice with that key.
func UnpackSlice(key Key, packed string) *Slice {
	u := unpacker(packed)
	flags := u.byte()
	s := &Slice{Key: key, IPv6: flags&1 != 0, ResourceVersion: u.text(), Service: Key{Namespace: key.Namespace}}
	if flags&2 != 0 {
		s.Service.Namespace = u.text()
	}
	s.Service.Name = u.text()
	for i, t := range []*time.Time{&s.Triggered, &s.Arrived} {
		if flags&(4<<i) != 0 {
			seconds := u.varint()
			*t = time.Unix(seconds, int64(u.number())).UTC()
		}
	}
	s.Ports = list(&u, func() SlicePort {
		return SlicePort{Name: u.text(), Protocol: Protocol(u.byte()), Port: uint16(u.number())}
	})
	s.Endpoints = list(&u, u.endpoint)
	return s
}

func (u *unpacker) endpoint() (e Endpoint) {
	flags := u.byte()
	e.Ready, e.Serving, e.Terminating = flags&1 != 0, flags&2 != 0, flags&4 != 0
	e.Addr = u.addr()
	for i, text := range []*string{&e.Hostname, &e.NodeName, &e.Zone} {
		if flags&(8<<i) != 0 {
			*text = u.text()
		}
	}
	if flags&64 != 0 {
		e.Pod = Key{Namespace: u.text(), Name: u.text()}
	}
	if flags&128 != 0 {
		e.Hints = &Hints{zones: list(u, u.text), nodes: list(u, u.text)}
	}
	return e
}

// packer appends values so that unpacker can take them off in the same order.
type packer []byte

func (p *packer) flags(flags ...bool) {
	var b byte
	for i, is := range flags {
		if is {
			b |= 1 << i
		}
	}
	*p = append(*p, b)
}

func (p *packer) number(n int) { *p = binary.AppendUvarint(*p, uint64(n)) }

func (p *packer) text(s string) {
	p.number(len(s))
	*p = append(*p, s...)
}

func (p *packer) texts(list []string) {
	p.number(len(list))
	for _, s := range list {
		p.text(s)
	}
}

func (p *packer) addrs(list []netip.Addr) {
	p.number(len(list))
	for _, a := range list {
		p.addr(a)
	}
}

// addr writes the length of an address and its bytes; one with a zone as text behind length 255.
func (p *packer) addr(a netip.Addr) {
	if a.Zone() != "" {
		*p = append(*p, 255)
		p.text(a.String())
		return
	}
	raw := a.AsSlice()
	*p = append(append(*p, byte(len(raw))), raw...)
}

// unpacker takes values off a string that a packer wrote.
type unpacker string

func (u *unpacker) byte() byte {
	b := (*u)[0]
	*u = (*u)[1:]
	return b
}

// uvarint is binary.Uvarint of a string.
func (u *unpacker) uvarint() (n uint64) {
	for shift := 0; ; shift += 7 {
		b := u.byte()
		n |= uint64(b&0x7F) << shift
		if b < 0x80 {
			return n
		}
	}
}

func (u *unpacker) number() int { return int(u.uvarint()) }

// varint reads what binary.AppendVarint writes.
func (u *unpacker) varint() int64 {
	n := u.uvarint()
	return int64(n>>1) ^ -int64(n&1)
}

func (u *unpacker) take(n int) string {
	s := string(*u)[:n]
	*u = (*u)[n:]
	return s
}

func (u *unpacker) text() string { return u.take(u.number()) }

func (u *unpacker) addr() netip.Addr {
	switch n := u.byte(); n {
	case 4:
		return netip.AddrFrom4([4]byte([]byte(u.take(4))))
	case 16:
		return netip.AddrFrom16([16]byte([]byte(u.take(16))))
	case 255:
		a, _ := netip.ParseAddr(u.text()) // what String wrote
		return a
	}
	return netip.Addr{}
}

func (u *unpacker) addrs() []netip.Addr { return list(u, u.addr) }

// list reads a number and as many values, nil when there are none.
func list[T any](u *unpacker, one func() T) []T {
	n := u.number()
	if n == 0 {
		return nil
	}
	out := make([]T, n)
	for i := range out {
		out[i] = one()
	}
	return out
}
