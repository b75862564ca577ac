package ebpf

import (
	"net/netip"

	"nodelet/internal/model"
	"nodelet/internal/nft/sim"
	"nodelet/proxy/eval"
	"nodelet/proxy/lb"
)

// Maps are the contents of the maps that decide where packets go, rendered or
// read from a kernel.
type Maps struct {
	elements
	locals map[proxyAddr]proxyLocal
}

// Rendered gives what a kernel without any maps would get for a node with
// these addresses.
func Rendered(s *lb.State, node []netip.Addr) *Maps {
	return &Maps{elements: newContent(s.Config()).become(s, nil), locals: asLocals(s.Config(), node)}
}

// Follow does what the programs do with the first packet of a connection, as
// bpf/proxy.c and bpf/socket.h say it: all ways it can go, with their chances.
// What clients are remembered for is left out.
func (m *Maps) Follow(p eval.Packet) []sim.Outcome {
	if p.From == lb.FromNode {
		return m.fromNode(p)
	}
	f, ok := m.find(p.Dst, p.Proto, true)
	if !ok {
		return m.untouched(p)
	}
	source := lb.FromOutside
	if m.inRange(podRanges, p.Src) {
		source = lb.FromPod
	}
	if f.Flags&uint8(proxyFrontendFlagsFRONTEND_GUARDED) != 0 && !m.inRange(f.Port, p.Src) {
		return ends(p, sim.Dropped)
	}
	return m.treat(p, f, f.How[source])
}

// fromNode is a socket of the node's own, as resolve in bpf/socket.h and own
// in bpf/proxy.c treat it.
func (m *Maps) fromNode(p eval.Packet) []sim.Outcome {
	f, ok := m.find(p.Dst, p.Proto, true)
	if !ok {
		return m.untouched(p)
	}
	if f.Flags&uint8(proxyFrontendFlagsFRONTEND_GUARDED) != 0 && f.Flags&uint8(proxyFrontendFlagsFRONTEND_ADMITS_NODE) == 0 {
		if !m.inRange(f.Port, p.Src) {
			return ends(p, sim.Dropped)
		}
		return m.untouched(p)
	}
	return m.treat(p, f, f.How[lb.FromNode])
}

func ends(p eval.Packet, how sim.End) []sim.Outcome {
	return []sim.Outcome{{End: how, Dst: p.Dst, Weight: 1}}
}

func (m *Maps) untouched(p eval.Packet) []sim.Outcome { return ends(p, sim.Passed) }

// find is whose a packet is; see bpf/lookup.h.
func (m *Maps) find(dst netip.AddrPort, proto model.Protocol, nodePorts bool) (proxyFrontend, bool) {
	look := func(a netip.Addr, proto model.Protocol, port uint16) (proxyFrontend, bool) {
		f, ok := m.frontends[encodeFrontend(lb.Frontend{Addr: a, Proto: proto, Port: port})]
		return f, ok
	}
	at := encodeAddr(dst.Addr())
	f, ok := look(dst.Addr(), proto, dst.Port())
	if !ok && nodePorts && m.locals[at].NodePorts != 0 {
		any := netip.IPv4Unspecified()
		if dst.Addr().Is6() {
			any = netip.IPv6Unspecified()
		}
		f, ok = look(any, proto, dst.Port())
	}
	if !ok {
		f, ok = look(dst.Addr(), 0, 0)
	}
	if !ok && m.inRange(serviceRanges, dst.Addr()) {
		drop := uint8(proxyHowHOW_DROP)
		f, ok = proxyFrontend{How: [3]uint8{drop, drop, drop}, Flags: uint8(proxyFrontendFlagsFRONTEND_CLUSTER_IP)}, true
	}
	if f.Flags&uint8(proxyFrontendFlagsFRONTEND_ELSEWHERE) != 0 {
		return f, false
	}
	if _, here := m.locals[at]; ok && here && f.Flags&uint8(proxyFrontendFlagsFRONTEND_CLUSTER_IP) != 0 {
		return f, false
	}
	return f, ok
}

// inRange is a look-up by longest prefix: all values are the same, so any that contains it will do.
func (m *Maps) inRange(port uint32, a netip.Addr) bool {
	for k := range m.ranges {
		if k.Port == port && netip.PrefixFrom(netip.AddrFrom16(decodeAddr(k.Addr).As16()), int(k.Bits)-32).Contains(netip.AddrFrom16(a.As16())) {
			return true
		}
	}
	return false
}

// treat is what happens by a frontend's instruction for a source.
func (m *Maps) treat(p eval.Packet, f proxyFrontend, instruction uint8) []sim.Outcome {
	how := proxyHow(instruction)
	switch how & proxyHowHOW_ACTION {
	case proxyHowHOW_REJECT:
		return ends(p, sim.Rejected)
	case proxyHowHOW_DROP:
		return ends(p, sim.Dropped)
	}
	list, n := 0, m.ports[f.Port].Slots
	if how&proxyHowHOW_LOCAL != 0 {
		list, n = 1, m.ports[f.Port].Local
	}
	if n == 0 {
		return ends(p, sim.Rejected)
	}
	out := make([]sim.Outcome, 0, n)
	for slot := range n {
		e, ok := m.slots[proxySlotKey{Port: f.Port, Slot: listBase(list) + slot}]
		if !ok {
			e, ok = m.slots[proxySlotKey{Port: f.Port, Slot: listBase(list)}]
		}
		w := sim.Outcome{End: sim.Rejected, Dst: p.Dst, Weight: 1 / float64(n)}
		if ok {
			to := decodeEndpoint(e)
			w.End, w.Dst, w.Translated = sim.Passed, to.AddrPort, true
			w.Masqueraded = m.masquerades(p, to, how&proxyHowHOW_MASQUERADE != 0)
		}
		out = append(out, w)
	}
	return out
}

// masquerades: the source changes when a packet leaves by a device, which one
// for the node itself never does.
func (m *Maps) masquerades(p eval.Packet, to lb.Endpoint, asked bool) bool {
	if _, here := m.locals[encodeAddr(to.Addr())]; here && p.From != lb.FromNode {
		return false
	}
	return asked || to.Here && to.Addr() == p.Src
}
