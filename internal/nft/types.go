package nft

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Family is the address family of a table.
type Family uint8

// The families. Inet holds both IPv4 and IPv6 packets.
const (
	IPv4 Family = unix.NFPROTO_IPV4
	IPv6 Family = unix.NFPROTO_IPV6
	Inet Family = unix.NFPROTO_INET
)

// String is the family as nft writes it.
func (f Family) String() string {
	switch f {
	case IPv4:
		return "ip"
	case IPv6:
		return "ip6"
	case Inet:
		return "inet"
	}
	return fmt.Sprintf("family(%d)", uint8(f))
}

// Table names a table.
type Table struct {
	Family Family
	Name   string
}

// String is "family name", as nft writes it.
func (t Table) String() string { return t.Family.String() + " " + t.Name }

// ChainType is the type of a base chain.
type ChainType string

// The base chain types. NAT chains see only the first packet of a connection.
const (
	Filter ChainType = "filter"
	NAT    ChainType = "nat"
	Route  ChainType = "route"
)

// Hook is the place in the packet's path where a base chain sits.
type Hook uint32

// The hooks of the ip, ip6 and inet families.
const (
	Prerouting  Hook = unix.NF_INET_PRE_ROUTING
	Input       Hook = unix.NF_INET_LOCAL_IN
	Forward     Hook = unix.NF_INET_FORWARD
	Output      Hook = unix.NF_INET_LOCAL_OUT
	Postrouting Hook = unix.NF_INET_POST_ROUTING
)

// String is the hook as nft writes it.
func (h Hook) String() string {
	return [...]string{"prerouting", "input", "forward", "output", "postrouting"}[h]
}

// The customary priorities of base chains; lower runs first.
const (
	PriorityRaw    = -300
	PriorityDNAT   = -100
	PriorityFilter = 0
	PrioritySNAT   = 100
)

// Base makes a chain a base chain.
type Base struct {
	Type     ChainType
	Hook     Hook
	Priority int
	// Drop makes drop the policy; the default is accept.
	Drop bool
}

// Chain is a chain with its rules in order. A nil Base makes it a chain that is only jumped to.
type Chain struct {
	Name  string
	Base  *Base
	Rules []Rule
}

// Rule is one rule: all its statements in order, each running only when the ones before it matched.
type Rule struct {
	// Comment is shown by "nft list".
	Comment string
	Do      []Stmt
}

// String is close to what nft prints.
func (r Rule) String() string {
	parts := make([]string, len(r.Do))
	for i, s := range r.Do {
		parts[i] = s.text
	}
	text := strings.Join(parts, " ")
	if r.Comment != "" {
		text += fmt.Sprintf(" comment %q", r.Comment)
	}
	return text
}

// Type is the type of one field of a key or of a map's data.
type Type uint8

// The field types. Mark is any 32-bit number in host order. Verdict is only for the data of a map.
const (
	IPv4Addr Type = iota
	IPv6Addr
	InetProto
	InetService
	Mark
	IfName
	Verdict
)

type typeInfo struct {
	name string
	// magic is nft's number for the type, so that "nft list" prints it well.
	magic uint32
	bytes uint32
}

// info is what the kernel and the nft program need to know of a type.
func (t Type) info() typeInfo {
	return [...]typeInfo{
		{"ipv4_addr", 7, 4}, {"ipv6_addr", 8, 16}, {"inet_proto", 12, 1},
		{"inet_service", 13, 2}, {"mark", 19, 4}, {"ifname", 41, unix.IFNAMSIZ},
		{"verdict", 0xffffff00, 16},
	}[t]
}

// String is the type as nft writes it.
func (t Type) String() string { return t.info().name }

// Types is the type of a key or of data: one field, or several concatenated.
type Types []Type

// String joins the fields with dots, as nft writes it.
func (ts Types) String() string {
	names := make([]string, len(ts))
	for i, t := range ts {
		names[i] = t.String()
	}
	return strings.Join(names, " . ")
}

// magicAndLen gives nft's number for the concatenation and its length; each
// field of a concatenation is padded to whole 32-bit registers.
func (ts Types) magicAndLen() (magic, length uint32) {
	if len(ts) == 1 {
		return ts[0].info().magic, ts[0].info().bytes
	}
	for _, t := range ts {
		i := t.info()
		magic = magic<<6 | i.magic
		length += (i.bytes + 3) &^ 3
	}
	return magic, length
}

// Set is a set, or a map when Data is not empty. Element order means nothing.
type Set struct {
	Name string
	Key  Types
	Data Types
	// Interval: keys are ranges.
	Interval bool
	// Timeout: elements may expire.
	Timeout bool
	// Dynamic: rules add elements. Such elements are never part of what is wanted.
	Dynamic bool
	// Size limits the number of elements; 0 is no limit.
	Size     uint32
	Elements []Element
}

// IsMap tells whether the set maps its keys to data.
func (s *Set) IsMap() bool { return len(s.Data) > 0 }

// String is one line: kind, name, types.
func (s *Set) String() string {
	if s.IsMap() {
		return fmt.Sprintf("map %s { %s : %s }", s.Name, s.Key, s.Data)
	}
	return fmt.Sprintf("set %s { %s }", s.Name, s.Key)
}

// Element is one element of a set or map, in the kernel's bytes (see Bytes).
type Element struct {
	Key []byte
	// KeyEnd is the last key of a range, itself included; nil for a single key.
	KeyEnd []byte
	// Data is the mapped value of a map that is not a verdict map.
	Data []byte
	// Do is the verdict of a verdict map.
	Do Action
	// Timeout of a new element, and what is left of it when read back; 0 is for ever.
	Timeout time.Duration
}

// Action is a verdict: what happens to the packet, and for Jump and Goto where.
type Action struct {
	Kind  ActionKind
	Chain string
}

// ActionKind is the kind of a verdict.
type ActionKind uint8

// The verdict kinds. NoAction is the zero value: no verdict.
const (
	NoAction ActionKind = iota
	DoAccept
	DoDrop
	DoReturn
	DoJump
	DoGoto
)

// code is the kernel's number for the verdict.
func (a Action) code() int32 {
	return [...]int32{0, 1, 0, unix.NFT_RETURN, unix.NFT_JUMP, unix.NFT_GOTO}[a.Kind]
}

func actionFromCode(code int32, chain string) Action {
	switch code {
	case 1:
		return Action{Kind: DoAccept}
	case 0:
		return Action{Kind: DoDrop}
	case unix.NFT_RETURN:
		return Action{Kind: DoReturn}
	case unix.NFT_JUMP:
		return Action{Kind: DoJump, Chain: chain}
	case unix.NFT_GOTO:
		return Action{Kind: DoGoto, Chain: chain}
	}
	return Action{}
}

// String is the verdict as nft writes it.
func (a Action) String() string {
	s := [...]string{"none", "accept", "drop", "return", "jump", "goto"}[a.Kind]
	if a.Chain != "" {
		s += " " + a.Chain
	}
	return s
}

// Ruleset is the whole content of one table.
type Ruleset struct {
	Table  Table
	Sets   []Set
	Chains []Chain
}

// Bytes gives the kernel's bytes of a key or of data: its fields concatenated,
// each padded to 32 bits when there is more than one. Fields are netip.Addr,
// uint8 (a protocol), uint16 (a port), uint32 (a mark) and string (an interface name).
func Bytes(fields ...any) []byte {
	var b []byte
	for _, f := range fields {
		b = appendField(b, f)
		if len(fields) > 1 {
			for len(b)%4 != 0 {
				b = append(b, 0)
			}
		}
	}
	return b
}

func appendField(b []byte, f any) []byte {
	switch v := f.(type) {
	case netip.Addr:
		return append(b, v.AsSlice()...)
	case uint8:
		return append(b, v)
	case uint16:
		return binary.BigEndian.AppendUint16(b, v)
	case uint32:
		return binary.NativeEndian.AppendUint32(b, v)
	case string:
		name := make([]byte, unix.IFNAMSIZ)
		copy(name, v)
		return append(b, name...)
	}
	panic(fmt.Sprintf("nft: a field cannot be a %T", f)) // a programming error, never input
}
