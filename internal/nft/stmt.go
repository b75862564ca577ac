package nft

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Stmt is one statement of a rule: a match or an action. Make one with the
// functions below; the simple ones use the first 128-bit register as scratch.
type Stmt struct {
	text   string
	encode func(Family) []any // expr.Any, or ctOriginalDst
}

// String is close to what nft prints.
func (s Stmt) String() string { return s.text }

// Reg is one of the sixteen 32-bit registers, 0 to 15. A rule must load a
// register before it reads it; registers do not carry over to another rule.
//
// What Lookup has put into a register may only be used by DNAT: as the key of
// another set, or as the data of Update, the kernel takes it, but the nft
// program (1.0.6 at least) aborts when it lists such a rule, and with it every
// "nft list ruleset" on the machine.
type Reg uint8

func (r Reg) n() uint32 { return unix.NFT_REG32_00 + uint32(r) }

// Field is something of a packet or its connection that can be loaded.
type Field uint8

// The fields. SrcAddr and DstAddr take the table's family; in an inet table use the numbered ones after IsIPv4 or IsIPv6.
const (
	SrcAddr Field = iota
	DstAddr
	SrcAddr4
	DstAddr4
	SrcAddr6
	DstAddr6
	L4Proto
	SrcPort
	DstPort
	PacketMark
	InIf
	OutIf
	NFProto
	CtState
	CtStatus
	CtDirection
	SrcAddrType
	DstAddrType
	CtOriginalDst // only in tables of one family
	CtOriginalDstPort
)

var fieldNames = [...]string{
	"saddr", "daddr", "ip saddr", "ip daddr", "ip6 saddr", "ip6 daddr", "meta l4proto", "th sport", "th dport",
	"meta mark", "iifname", "oifname", "meta nfproto", "ct state", "ct status", "ct direction",
	"fib saddr type", "fib daddr type", "ct original daddr", "ct original proto-dst",
}

// String is the field as nft writes it.
func (f Field) String() string { return fieldNames[f] }

func (f Field) load(family Family, r Reg) any {
	payload := func(base expr.PayloadBase, offset, length uint32) any {
		return &expr.Payload{DestRegister: r.n(), Base: base, Offset: offset, Len: length}
	}
	network, transport := expr.PayloadBaseNetworkHeader, expr.PayloadBaseTransportHeader
	if family == IPv6 && (f == SrcAddr || f == DstAddr) {
		f += SrcAddr6 - SrcAddr
	}
	switch f {
	case SrcAddr, SrcAddr4:
		return payload(network, 12, 4)
	case DstAddr, DstAddr4:
		return payload(network, 16, 4)
	case SrcAddr6:
		return payload(network, 8, 16)
	case DstAddr6:
		return payload(network, 24, 16)
	case SrcPort:
		return payload(transport, 0, 2)
	case DstPort:
		return payload(transport, 2, 2)
	case L4Proto:
		return &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: r.n()}
	case PacketMark:
		return &expr.Meta{Key: expr.MetaKeyMARK, Register: r.n()}
	case InIf:
		return &expr.Meta{Key: expr.MetaKeyIIFNAME, Register: r.n()}
	case OutIf:
		return &expr.Meta{Key: expr.MetaKeyOIFNAME, Register: r.n()}
	case NFProto:
		return &expr.Meta{Key: expr.MetaKeyNFPROTO, Register: r.n()}
	case CtState:
		return &expr.Ct{Key: expr.CtKeySTATE, Register: r.n()}
	case CtStatus:
		return &expr.Ct{Key: expr.CtKeySTATUS, Register: r.n()}
	case CtDirection:
		return &expr.Ct{Key: expr.CtKeyDIRECTION, Register: r.n()}
	case CtOriginalDst:
		return ctOriginalDst{ipv6: family == IPv6, reg: r}
	case CtOriginalDstPort:
		return &expr.Ct{Key: expr.CtKeyPROTODST, Register: r.n()}
	case SrcAddrType:
		return &expr.Fib{Register: r.n(), FlagSADDR: true, ResultADDRTYPE: true}
	default:
		return &expr.Fib{Register: r.n(), FlagDADDR: true, ResultADDRTYPE: true}
	}
}

// ctOriginalDst loads the destination that a connection's first packet came
// with. The library knows only the kernel's older key for it, which carries no
// type and which the nft program cannot print within a concatenation.
type ctOriginalDst struct {
	ipv6 bool
	reg  Reg
}

func (c ctOriginalDst) append(e *encoder) {
	key := uint32(unix.NFT_CT_DST_IP)
	if c.ipv6 {
		key = unix.NFT_CT_DST_IP6
	}
	e.str(unix.NFTA_EXPR_NAME, "ct")
	data := e.nest(unix.NFTA_EXPR_DATA)
	e.u32(unix.NFTA_CT_KEY, key)
	e.u32(unix.NFTA_CT_DREG, c.reg.n())
	e.bytes(unix.NFTA_CT_DIRECTION, []byte{0})
	e.endNest(data)
}

// Load reads a field into a register and, when it is longer, the ones after it.
func Load(r Reg, f Field) Stmt {
	return Stmt{fmt.Sprintf("[r%d = %s]", r, f), func(family Family) []any {
		return []any{f.load(family, r)}
	}}
}

// LoadBytes puts constant bytes, at most 16, into a register.
func LoadBytes(r Reg, v []byte) Stmt {
	return Stmt{fmt.Sprintf("[r%d = 0x%x]", r, v), func(Family) []any {
		return []any{&expr.Immediate{Register: r.n(), Data: v}}
	}}
}

// LoadRandom puts a random number from offset to offset+modulus-1 into a register, in host order.
func LoadRandom(r Reg, modulus, offset uint32) Stmt {
	return Stmt{fmt.Sprintf("[r%d = numgen random mod %d offset %d]", r, modulus, offset), func(Family) []any {
		return []any{&expr.Numgen{Register: r.n(), Modulus: modulus, Offset: offset, Type: unix.NFT_NG_RANDOM}}
	}}
}

// Lookup finds the key that starts at a register in a map and puts its data
// from register to on; the rule ends here when there is no such key. The data
// may overwrite the key.
func Lookup(name string, key, to Reg) Stmt {
	return Stmt{fmt.Sprintf("[r%d = map @%s r%d]", to, name, key), func(Family) []any {
		return []any{&expr.Lookup{SetName: name, SourceRegister: key.n(), DestRegister: to.n(), IsDestRegSet: true}}
	}}
}

// Member matches when the key that starts at a register is in the set.
func Member(name string, key Reg) Stmt {
	return Stmt{fmt.Sprintf("r%d @%s", key, name), func(Family) []any {
		return []any{&expr.Lookup{SetName: name, SourceRegister: key.n()}}
	}}
}

// NotMember matches when the key that starts at a register is not in the set.
func NotMember(name string, key Reg) Stmt {
	return Stmt{fmt.Sprintf("r%d != @%s", key, name), func(Family) []any {
		return []any{&expr.Lookup{SetName: name, SourceRegister: key.n(), Invert: true}}
	}}
}

// VerdictMap does what the verdict map says for the key that starts at a
// register; the rule ends here when there is no such key.
func VerdictMap(name string, key Reg) Stmt {
	return Stmt{fmt.Sprintf("r%d vmap @%s", key, name), func(Family) []any {
		return []any{&expr.Lookup{SetName: name, SourceRegister: key.n(), DestRegister: unix.NFT_REG_VERDICT, IsDestRegSet: true}}
	}}
}

// Update adds the key with its data to a dynamic map, or begins the key's
// timeout anew when it is there (its data then stay as they are).
func Update(name string, key, data Reg, timeout time.Duration) Stmt {
	return Stmt{fmt.Sprintf("update @%s { r%d timeout %s : r%d }", name, key, timeout, data), func(Family) []any {
		return []any{&expr.Dynset{
			SetName: name, SrcRegKey: key.n(), SrcRegData: data.n(),
			Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: timeout,
		}}
	}}
}

// Rate is a number of packets a second, and how many more at once.
type Rate struct{ PerSecond, Burst uint32 }

// OverRate matches packets beyond a rate of their own for each key: the key is
// kept in a dynamic set until none came for the timeout. While the set is full
// nothing matches for keys that are not in it.
func OverRate(name string, key Reg, timeout time.Duration, rate Rate) Stmt {
	text := fmt.Sprintf("update @%s { r%d timeout %s limit rate over %d/second burst %d packets }", name, key, timeout, rate.PerSecond, rate.Burst)
	return Stmt{text, func(Family) []any {
		return []any{&expr.Dynset{
			SetName: name, SrcRegKey: key.n(), Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: timeout,
			Exprs: []expr.Any{&expr.Limit{
				Type: expr.LimitTypePkts, Rate: uint64(rate.PerSecond), Unit: expr.LimitTimeSecond, Burst: rate.Burst, Over: true,
			}},
		}}
	}}
}

// Equal matches when the register and the ones after it hold these bytes.
func Equal(r Reg, v []byte) Stmt { return compare(r, expr.CmpOpEq, v, "==") }

// NotEqual matches when the register and the ones after it hold other bytes.
func NotEqual(r Reg, v []byte) Stmt { return compare(r, expr.CmpOpNeq, v, "!=") }

func compare(r Reg, op expr.CmpOp, v []byte, sign string) Stmt {
	return Stmt{fmt.Sprintf("r%d %s 0x%x", r, sign, v), func(Family) []any {
		return []any{&expr.Cmp{Op: op, Register: r.n(), Data: v}}
	}}
}

// Is matches a field with a value: a string for interface names ("veth*"
// matches a prefix), uint8 for protocols, uint16 for ports, netip.Addr or
// netip.Prefix for addresses.
func Is(f Field, v any) Stmt { return match(f, expr.CmpOpEq, v) }

// IsNot matches when the field has another value.
func IsNot(f Field, v any) Stmt { return match(f, expr.CmpOpNeq, v) }

func match(f Field, op expr.CmpOp, v any) Stmt {
	sign := map[expr.CmpOp]string{expr.CmpOpEq: "", expr.CmpOpNeq: "!= "}[op]
	return Stmt{fmt.Sprintf("%s %s%v", f, sign, v), func(family Family) []any {
		es := []any{f.load(family, 0)}
		var data []byte
		switch v := v.(type) {
		case netip.Prefix:
			mask := make([]byte, v.Addr().BitLen()/8)
			for i := range v.Bits() {
				mask[i/8] |= 0x80 >> (i % 8)
			}
			n := uint32(len(mask))
			es = append(es, &expr.Bitwise{
				SourceRegister: Reg(0).n(), DestRegister: Reg(0).n(), Len: n, Mask: mask, Xor: make([]byte, n),
			})
			data = v.Masked().Addr().AsSlice()
		case string:
			data = Bytes(v)
			if prefix, ok := strings.CutSuffix(v, "*"); ok {
				data = []byte(prefix)
			}
		default:
			data = Bytes(v)
		}
		return append(es, &expr.Cmp{Op: op, Register: Reg(0).n(), Data: data})
	}}
}

// IsIPv4 and IsIPv6 match the network protocol; for tables of family Inet.
func IsIPv4() Stmt { return Is(NFProto, uint8(unix.NFPROTO_IPV4)) }

// IsIPv6 is IsIPv4's other half.
func IsIPv6() Stmt { return Is(NFProto, uint8(unix.NFPROTO_IPV6)) }

// ToLocal matches packets to an address of this machine.
func ToLocal() Stmt { return Is(DstAddrType, uint32(unix.RTN_LOCAL)) }

// FromLocal matches packets from an address of this machine.
func FromLocal() Stmt { return Is(SrcAddrType, uint32(unix.RTN_LOCAL)) }

// HasBits matches when any of the bits is set in the field: for CtState, CtStatus and PacketMark.
func HasBits(f Field, bits uint32) Stmt { return bitsMatch(f, bits, expr.CmpOpNeq) }

// LacksBits matches when none of the bits is set in the field.
func LacksBits(f Field, bits uint32) Stmt { return bitsMatch(f, bits, expr.CmpOpEq) }

func bitsMatch(f Field, bits uint32, op expr.CmpOp) Stmt {
	sign := map[expr.CmpOp]string{expr.CmpOpEq: "==", expr.CmpOpNeq: "!="}[op]
	return Stmt{fmt.Sprintf("%s & %#x %s 0", f, bits, sign), func(family Family) []any {
		r := Reg(0).n()
		return []any{
			f.load(family, 0),
			&expr.Bitwise{SourceRegister: r, DestRegister: r, Len: 4, Mask: Bytes(bits), Xor: Bytes(uint32(0))},
			&expr.Cmp{Op: op, Register: r, Data: Bytes(uint32(0))},
		}
	}}
}

// Bits of CtState and CtStatus.
const (
	StateInvalid     uint32 = 1
	StateEstablished uint32 = 2
	StateRelated     uint32 = 4
	StateNew         uint32 = 8
	StateUntracked   uint32 = 64
	StatusSNAT       uint32 = 0x10
	StatusDNAT       uint32 = 0x20
)

// SetBits and ClearBits change some bits of the packet mark and leave the others as they are.
func SetBits(bits uint32) Stmt { return changeMark(fmt.Sprintf("or %#x", bits), ^bits, bits) }

// ClearBits is SetBits' other half.
func ClearBits(bits uint32) Stmt { return changeMark(fmt.Sprintf("and %#x", ^bits), ^bits, 0) }

func changeMark(text string, mask, xor uint32) Stmt {
	return Stmt{"meta mark set mark " + text, func(Family) []any {
		r := Reg(0).n()
		return []any{
			&expr.Meta{Key: expr.MetaKeyMARK, Register: r},
			&expr.Bitwise{SourceRegister: r, DestRegister: r, Len: 4, Mask: Bytes(mask), Xor: Bytes(xor)},
			&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: r},
		}
	}}
}
