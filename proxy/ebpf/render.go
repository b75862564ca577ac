package ebpf

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"

	"nodelet/internal/model"
	"nodelet/proxy/lb"
	"nodelet/proxy/maglev"
)

// localSlots marks the slots of the policy Local (LOCAL_SLOTS).
const localSlots = 1 << 31

// podRanges is the port under which ranges holds the addresses of pods,
// serviceRanges (SERVICE_RANGES) that of the ranges of ClusterIPs.
const (
	podRanges     = 0
	serviceRanges = math.MaxUint32
)

// encodeAddr is an address as the programs see it: 16 bytes in network order.
func encodeAddr(a netip.Addr) (out proxyAddr) {
	b := a.As16()
	for i := range out.W {
		out.W[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return out
}

func decodeAddr(a proxyAddr) netip.Addr {
	var b [16]byte
	for i, w := range a.W {
		binary.NativeEndian.PutUint32(b[4*i:], w)
	}
	return netip.AddrFrom16(b).Unmap()
}

// swapped is a port number in network order.
func swapped(port uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], port)
	return binary.NativeEndian.Uint16(b[:])
}

func encodeFrontend(f lb.Frontend) proxyFrontendKey {
	return proxyFrontendKey{Addr: encodeAddr(f.Addr), Port: swapped(f.Port), Proto: uint8(f.Proto)}
}

// decodeFrontend is the opposite. An unspecified IPv4 address stays one.
func decodeFrontend(k proxyFrontendKey) lb.Frontend {
	return lb.Frontend{Addr: decodeAddr(k.Addr), Port: swapped(k.Port), Proto: model.Protocol(k.Proto)}
}

func encodeEndpoint(e lb.Endpoint) proxyEndpoint {
	out := proxyEndpoint{Addr: encodeAddr(e.Addr()), Port: swapped(e.Port())}
	if e.Here {
		out.Here = 1
	}
	return out
}

func decodeEndpoint(e proxyEndpoint) lb.Endpoint {
	return lb.Endpoint{AddrPort: netip.AddrPortFrom(decodeAddr(e.Addr), swapped(e.Port)), Here: e.Here != 0}
}

func encodeRange(port uint32, p netip.Prefix) proxyRangeKey {
	bits := 32 + p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	return proxyRangeKey{Bits: uint32(bits), Port: port, Addr: encodeAddr(p.Masked().Addr())}
}

// renderHow is what happens to connections from each source.
func renderHow(cfg *lb.Config, t lb.Target) (how [3]uint8) {
	for i := range how {
		r := t.Route(cfg, lb.Source(i))
		switch r.Action {
		case lb.Balance:
			how[i] = uint8(proxyHowHOW_BALANCE)
		case lb.Drop:
			how[i] = uint8(proxyHowHOW_DROP)
		default:
			how[i] = uint8(proxyHowHOW_REJECT)
		}
		if r.Local {
			how[i] |= uint8(proxyHowHOW_LOCAL)
		}
		if r.Masquerade {
			how[i] |= uint8(proxyHowHOW_MASQUERADE)
		}
	}
	return how
}

// canBalance tells the protocols that the programs can rewrite. SCTP's checksum
// is over the whole packet, so its frontends are refused.
func canBalance(p model.Protocol) bool { return p == 0 || p == model.TCP || p == model.UDP }

func renderFrontend(cfg *lb.Config, f lb.Frontend, t lb.Target, port uint32) proxyFrontend {
	out := proxyFrontend{Port: port}
	if t.Kind == lb.Elsewhere {
		return proxyFrontend{Flags: uint8(proxyFrontendFlagsFRONTEND_ELSEWHERE)}
	}
	if canBalance(f.Proto) {
		out.How = renderHow(cfg, t)
	}
	if t.Kind == lb.ClusterIP || t.Kind == lb.AnyPort {
		out.Flags |= uint8(proxyFrontendFlagsFRONTEND_CLUSTER_IP)
	}
	if t.Kind == lb.LoadBalancerIP && len(t.Sources) > 0 {
		out.Flags |= uint8(proxyFrontendFlagsFRONTEND_GUARDED)
		// The node calls from an address that nobody knows yet when it
		// connects; where the node is admitted, so is the address itself (see lb).
		if t.Admits(f.Addr) {
			out.Flags |= uint8(proxyFrontendFlagsFRONTEND_ADMITS_NODE)
		}
	}
	return out
}

// portName is what a Port is known by: its ClusterIP frontend.
type portName = lb.Frontend

func nameOf(p *lb.Port) portName {
	return lb.Frontend{Addr: p.ClusterIP.Addr(), Proto: p.Proto, Port: p.ClusterIP.Port()}
}

// pool is a Port in the maps.
type pool struct {
	id      uint32
	value   proxyPort
	lists   [2][]lb.Endpoint // in their slots: Cluster, Local
	members map[netip.AddrPort]uint32
	sources []netip.Prefix
}

// listBase is the first slot of a list.
func listBase(i int) uint32 { return uint32(i) * localSlots }

// renderPool is what a Port has to become; its endpoints keep the slots that they had.
func renderPool(cfg *lb.Config, old *pool, p *lb.Port) *pool {
	n := &pool{id: old.id, sources: p.Sources}
	n.value.Affinity = uint64(max(p.Affinity, 0))
	if p.Maglev {
		n.value.Flags = uint32(proxyPortFlagsPORT_HASHED)
		n.lists[0], n.lists[1] = hashed(cfg, p.Cluster), hashed(cfg, p.Local)
	} else {
		n.lists[0], n.lists[1] = reseat(old.lists[0], p.Cluster), reseat(old.lists[1], p.Local)
	}
	n.value.Slots, n.value.Local = uint32(len(n.lists[0])), uint32(len(n.lists[1]))
	if p.Proto != model.UDP && p.Affinity <= 0 {
		return n
	}
	n.members = map[netip.AddrPort]uint32{}
	for _, e := range p.Cluster {
		n.members[e.AddrPort] |= uint32(proxyMemberFlagsMEMBER_CLUSTER)
	}
	for _, e := range p.Local {
		n.members[e.AddrPort] |= uint32(proxyMemberFlagsMEMBER_LOCAL)
	}
	for _, a := range p.Serving {
		n.members[a] |= uint32(proxyMemberFlagsMEMBER_SERVING)
	}
	return n
}

// maglevSize is the length of Maglev tables.
func maglevSize(cfg *lb.Config) int { return cmp.Or(cfg.MaglevSize, maglev.DefaultSize) }

// hashed gives the slots of a Maglev table.
func hashed(cfg *lb.Config, want []lb.Endpoint) []lb.Endpoint {
	of := make([]netip.AddrPort, len(want))
	for i, e := range want {
		of[i] = e.AddrPort
	}
	table := maglev.Table(maglevSize(cfg), of)
	out := make([]lb.Endpoint, len(table))
	for slot, i := range table {
		out[slot] = want[i]
	}
	return out
}

// reseat gives want in an order that leaves everybody who stays where he was,
// except that the last ones fill the holes. It may be want itself, which as part
// of a State nobody changes.
func reseat(have, want []lb.Endpoint) []lb.Endpoint {
	if len(have) == 0 {
		return want
	}
	if len(want) == 0 {
		return nil
	}
	pending := make(map[netip.AddrPort]lb.Endpoint, len(want))
	for _, e := range want {
		pending[e.AddrPort] = e
	}
	out := make([]lb.Endpoint, len(want))
	for i := range min(len(have), len(want)) {
		if e, ok := pending[have[i].AddrPort]; ok {
			out[i] = e
			delete(pending, e.AddrPort)
		}
	}
	hole := 0
	for _, e := range want {
		if _, ok := pending[e.AddrPort]; !ok {
			continue
		}
		for out[hole].IsValid() {
			hole++
		}
		out[hole] = e
	}
	return out
}

// String is one line.
func (p *pool) String() string {
	return fmt.Sprintf("port %d: cluster %v local %v affinity %d sources %v", p.id, p.lists[0], p.lists[1], p.value.Affinity, p.sources)
}
