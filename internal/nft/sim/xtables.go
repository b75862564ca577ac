package sim

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
)

// What iptables-nft leaves to its own modules. Their structures are the
// kernel's (include/uapi/linux/netfilter), in host order unless said.

func (m *machine) xmatch(x XMatch) bool {
	b := x.Info
	u16 := func(at int) uint16 { return binary.NativeEndian.Uint16(b[at:]) }
	u32 := func(at int) uint32 { return binary.NativeEndian.Uint32(b[at:]) }
	switch {
	case x.Name == "comment":
		return true
	case x.Name == "tcp" && len(b) >= 12 && b[8] == 0 && b[9] == 0: // no options, no flags
		return m.ports(b, b[11])
	case x.Name == "udp" && len(b) >= 9:
		return m.ports(b, b[8])
	case x.Name == "sctp" && len(b) >= sctpInfo && u32(sctpFlags)&^3 == 0: // ports and no chunk types
		return m.xsctp(u32(sctpFlags), u32(sctpInverse), b)
	case x.Name == "mark" && len(b) >= 9:
		return (m.mark&u32(4) == u32(0)) != (b[8] != 0)
	case x.Name == "addrtype" && x.Rev == 1 && len(b) >= 8 && u32(4)&^3 == 0:
		return m.xaddrtype(u16(0), u16(2), u32(4))
	case x.Name == "conntrack" && len(b) >= 152 && u16(146) == 1: // the state and nothing else
		bit := uint16(stateNew)
		if m.untracked {
			bit = 1 << 8
		}
		if m.translated {
			bit |= 1 << 7
		}
		return (u16(150)&bit != 0) != (u16(148)&1 != 0)
	case x.Name == "conntrack" && len(b) >= 152 && u16(146) == 1<<3: // the original destination and nothing else
		in := true
		for i, is := range m.p.Dst.Addr().AsSlice() {
			in = in && is&b[48+i] == b[32+i]
		}
		return !m.untracked && in != (u16(148)&(1<<3) != 0)
	case x.Name == "recent" && len(b) >= 212:
		return m.xrecent(b)
	case x.Name == "multiport" && x.Rev == 1 && len(b) >= 48 && b[0] < 2:
		return m.xmultiport(b)
	case x.Name == "nfacct":
		return true
	case x.Name == "statistic" && len(b) >= 8 && u16(0) == 0:
		return m.chance(float64(u32(4))/(1<<31)) != (u16(2)&1 != 0)
	}
	return m.guess("iptables match " + x.Name)
}

// ports are those of the matches tcp and udp; inverse bit 0 is for the source, 1 for the destination.
func (m *machine) ports(b []byte, inverse byte) bool {
	return portIn(b, m.p.Src.Port()) != (inverse&1 != 0) && portIn(b[4:], m.dst.Port()) != (inverse&2 != 0)
}

// portIn tells whether a port is in the range that b begins with.
func portIn(b []byte, p uint16) bool {
	return binary.NativeEndian.Uint16(b) <= p && p <= binary.NativeEndian.Uint16(b[2:])
}

// Where a struct xt_sctp_info has its flags, and its size.
const (
	sctpFlags   = 284
	sctpInverse = 288
	sctpInfo    = 292
)

// xsctp is the match sctp: destination ports come first, and a bit says whether each range counts.
func (m *machine) xsctp(flags, inverse uint32, b []byte) bool {
	src := flags&1 == 0 || portIn(b[4:], m.p.Src.Port()) != (inverse&1 != 0)
	dst := flags&2 == 0 || portIn(b, m.dst.Port()) != (inverse&2 != 0)
	return src && dst
}

func (m *machine) xaddrtype(src, dst uint16, inverse uint32) bool {
	is := func(mask uint16, a netip.Addr, not bool) bool {
		return mask == 0 || (mask&(1<<m.addrType(a)) != 0) != not
	}
	return is(src, m.p.Src.Addr(), inverse&1 != 0) && is(dst, m.dst.Addr(), inverse&2 != 0)
}

// xmultiport reads a struct xt_multiport_v1: source or destination, how many
// ports, the ports, which of them begin a range, inverse.
func (m *machine) xmultiport(b []byte) bool {
	const portsAt, pairsAt, notAt, most = 2, 32, 47, 15
	x := Ports{Src: b[0] == 0, Not: b[notAt] != 0}
	port := func(i int) uint16 { return binary.NativeEndian.Uint16(b[portsAt+2*i:]) }
	for i := 0; i < min(int(b[1]), most); i++ {
		from := port(i)
		if b[pairsAt+i] != 0 && i+1 < most {
			i++
		}
		x.Ranges = append(x.Ranges, [2]uint16{from, port(i)})
	}
	return m.inPorts(x)
}

// xrecent reads a struct xt_recent_mtinfo: seconds, hits, what to do, inverse, the list's name.
func (m *machine) xrecent(b []byte) bool {
	const set, nameAt, nameLen = 2, 10, 200
	name, _, _ := strings.Cut(string(b[nameAt:nameAt+nameLen]), "\x00")
	return m.recent(Recent{List: name, Set: b[8]&set != 0, Not: b[9] != 0})
}

// chance goes both ways, weighted.
func (m *machine) chance(p float64) bool {
	yes := m.choose(2) == 0
	if yes {
		m.weight *= 2 * p
	} else {
		m.weight *= 2 * (1 - p)
	}
	return yes
}

func (m *machine) xtarget(x XTarget) (Verdict, bool) {
	b := x.Info
	u32 := func(at int) uint32 { return binary.NativeEndian.Uint32(b[at:]) }
	switch {
	case x.Name == "REJECT":
		return Verdict{Code: codeReject}, true
	case x.Name == "MASQUERADE", x.Name == "SNAT":
		return m.expr(nil, Masquerade{})
	case x.Name == "CT" && len(b) >= 2 && b[0]&1 != 0, x.Name == "NOTRACK":
		m.untracked = true
		return goOn, true
	case x.Name == "MARK" && len(b) >= 8:
		m.mark = m.mark&^u32(4) ^ u32(0)
		return goOn, true
	case x.Name == "DNAT" && x.Rev == 2 && len(b) >= 40:
		m.xdnat(b)
		return Verdict{Code: CodeAccept}, true
	case slices.Contains(harmless, x.Name):
		return goOn, true
	}
	if m.guess("iptables target " + x.Name) {
		return goOn, true
	}
	return Verdict{Code: CodeDrop}, true
}

// xdnat reads a struct nf_nat_range2: flags, two addresses of 16 bytes, two ports in network order.
func (m *machine) xdnat(b []byte) {
	flags := binary.NativeEndian.Uint32(b)
	a, port := m.dst.Addr(), m.dst.Port()
	if flags&1 != 0 {
		a, _ = netip.AddrFromSlice(b[4 : 4+a.BitLen()/8])
	}
	if flags&2 != 0 {
		port = binary.BigEndian.Uint16(b[36:])
	}
	m.dst, m.translated = netip.AddrPortFrom(a, port), true
}
