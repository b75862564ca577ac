package nft

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

func verdict(text string, kind expr.VerdictKind, chain string) Stmt {
	return Stmt{text, func(Family) []any { return []any{&expr.Verdict{Kind: kind, Chain: chain}} }}
}

// Accept ends the base chain: the packet goes on to the next one.
func Accept() Stmt { return verdict("accept", expr.VerdictAccept, "") }

// Drop discards the packet.
func Drop() Stmt { return verdict("drop", expr.VerdictDrop, "") }

// Return goes back to the calling chain.
func Return() Stmt { return verdict("return", expr.VerdictReturn, "") }

// Jump goes to a chain and comes back.
func Jump(chain string) Stmt { return verdict("jump "+chain, expr.VerdictJump, chain) }

// Goto goes to a chain and does not come back here.
func Goto(chain string) Stmt { return verdict("goto "+chain, expr.VerdictGoto, chain) }

// Counter counts packets and bytes.
func Counter() Stmt {
	return Stmt{"counter", func(Family) []any { return []any{&expr.Counter{}} }}
}

// Notrack keeps the packet out of connection tracking; only at priority raw.
func Notrack() Stmt {
	return Stmt{"notrack", func(Family) []any { return []any{&expr.Notrack{}} }}
}

// Masquerade rewrites the source to the address of the outgoing interface, with a random port.
func Masquerade() Stmt {
	return Stmt{"masquerade fully-random", func(Family) []any { return []any{&expr.Masq{FullyRandom: true}} }}
}

// RejectTCPReset answers with a TCP reset; the rule must have matched TCP.
func RejectTCPReset() Stmt {
	return Stmt{"reject with tcp reset", func(Family) []any {
		return []any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}
	}}
}

// RejectPortUnreachable answers with ICMP port unreachable.
func RejectPortUnreachable() Stmt {
	return Stmt{"reject with port-unreachable", func(f Family) []any {
		switch f {
		case IPv4:
			return []any{&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: 3}}
		case IPv6:
			return []any{&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: 4}}
		}
		return []any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_PORT_UNREACH}}
	}}
}

// DNAT rewrites the destination to the address and port held in registers.
// The family is the table's; in an inet table use DNATFamily.
func DNAT(addr, port Reg) Stmt {
	return Stmt{fmt.Sprintf("dnat to r%d:r%d", addr, port), func(f Family) []any {
		return []any{nat(f, addr, port)}
	}}
}

// DNATFamily is DNAT for an inet table.
func DNATFamily(f Family, addr, port Reg) Stmt {
	return Stmt{fmt.Sprintf("dnat %s to r%d:r%d", f, addr, port), func(Family) []any {
		return []any{nat(f, addr, port)}
	}}
}

// DNATTo rewrites the destination to one address and port.
func DNATTo(to netip.AddrPort) Stmt {
	return Stmt{"dnat to " + to.String(), func(Family) []any {
		family := IPv6
		if to.Addr().Is4() {
			family = IPv4
		}
		return []any{
			&expr.Immediate{Register: Reg(0).n(), Data: to.Addr().AsSlice()},
			&expr.Immediate{Register: Reg(4).n(), Data: Bytes(to.Port())},
			nat(family, 0, 4),
		}
	}}
}

func nat(f Family, addr, port Reg) expr.Any {
	return &expr.NAT{
		Type: expr.NATTypeDestNAT, Family: uint32(f), RegAddrMin: addr.n(), RegProtoMin: port.n(), Specified: true,
	}
}
