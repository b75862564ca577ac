package ebpf

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// The elements in words, for goldens, errors and people.

// String is "port/slot", with "local" for the policy Local.
func (k proxySlotKey) String() string {
	if k.Slot >= localSlots {
		return fmt.Sprintf("%d/local%d", k.Port, k.Slot-localSlots)
	}
	return fmt.Sprintf("%d/%d", k.Port, k.Slot)
}

// String is "address:port", with "here" for one that may be on this node.
func (e proxyEndpoint) String() string {
	d := decodeEndpoint(e)
	if d.Here {
		return d.AddrPort.String() + " here"
	}
	return d.AddrPort.String()
}

// String is "port/address:port".
func (k proxyMemberKey) String() string {
	return fmt.Sprintf("%d/%s", k.Port, netip.AddrPortFrom(decodeAddr(k.Addr), swapped(k.Number)))
}

// String is "port/prefix".
func (k proxyRangeKey) String() string {
	a := decodeAddr(k.Addr)
	bits := int(k.Bits) - 32
	if a.Is4() && bits >= 96 {
		bits -= 96
	}
	return fmt.Sprintf("%d/%s", k.Port, netip.PrefixFrom(a, bits))
}

// String says how many endpoints there are.
func (p proxyPort) String() string {
	s := fmt.Sprintf("cluster %d local %d", p.Slots, p.Local)
	if p.Flags&uint32(proxyPortFlagsPORT_HASHED) != 0 {
		s += " maglev"
	}
	if p.Affinity > 0 {
		s += fmt.Sprintf(" affinity %s", time.Duration(p.Affinity))
	}
	return s
}

// String says what happens to each source.
func (f proxyFrontend) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "port %d", f.Port)
	for i, from := range []string{"pod", "node", "outside"} {
		how := proxyHow(f.How[i])
		fmt.Fprintf(&b, ", %s %s", from, [...]string{"reject", "drop", "balance", "?"}[how&proxyHowHOW_ACTION])
		if how&proxyHowHOW_LOCAL != 0 {
			b.WriteString(" local")
		}
		if how&proxyHowHOW_MASQUERADE != 0 {
			b.WriteString(" masquerade")
		}
	}
	if f.Flags&uint8(proxyFrontendFlagsFRONTEND_GUARDED) != 0 {
		b.WriteString(", guarded")
	}
	if f.Flags&uint8(proxyFrontendFlagsFRONTEND_ADMITS_NODE) != 0 {
		b.WriteString(", admits the node")
	}
	return b.String()
}
