package sim

import "net/netip"

// Families and hooks, by their kernel numbers.
const (
	Inet uint8 = 1
	IPv4 uint8 = 2
	IPv6 uint8 = 10

	Prerouting  = 0
	Input       = 1
	Forward     = 2
	Output      = 3
	Postrouting = 4
)

// Ruleset is all that a kernel holds.
type Ruleset struct{ Tables []Table }

// Table is one table.
type Table struct {
	Family  uint8
	Name    string
	Dormant bool
	// Origin says whose tables these are when they are not nf_tables' own: LegacyOrigin.
	Origin string
	Chains []Chain
	Sets   map[string]*Set
}

// Chain gives the chain with that name, nil when there is none.
func (t *Table) Chain(name string) *Chain {
	for i := range t.Chains {
		if t.Chains[i].Name == name {
			return &t.Chains[i]
		}
	}
	return nil
}

// Chain is a chain with its rules in order; Base is nil for one that is only jumped to.
type Chain struct {
	Name  string
	Base  *Base
	Rules []Rule
}

// Base is where a base chain sits.
type Base struct {
	NAT      bool
	Hook     int
	Priority int
	// Drop is the policy.
	Drop bool
}

// Rule is a rule as the kernel has it.
type Rule struct {
	Handle  uint64
	Comment string
	// Text is the rule as its own tool prints it, where it has no handle.
	Text  string
	Exprs []Expr
}

// Set is a set or a map.
type Set struct {
	Elements []Element
	// points finds single keys; made by index.
	points map[string]*Element
	ranges []*Element
}

// Element is one element; KeyEnd is the last key of a range.
type Element struct {
	Key, KeyEnd, Data []byte
	// Do is the verdict of a verdict map.
	Do *Verdict
}

// NewSet makes a set ready for lookups.
func NewSet(es []Element) *Set {
	s := &Set{Elements: es, points: make(map[string]*Element, len(es))}
	for i := range es {
		if es[i].KeyEnd == nil {
			s.points[string(es[i].Key)] = &es[i]
		} else {
			s.ranges = append(s.ranges, &es[i])
		}
	}
	return s
}

// find looks a key up; keys of the kernel may be padded.
func (s *Set) find(key []byte) *Element {
	if el := s.points[string(key)]; el != nil {
		return el
	}
	for _, el := range s.ranges {
		if string(el.Key) <= string(key) && string(key) <= string(el.KeyEnd) {
			return el
		}
	}
	return nil
}

// keyLen is the length of the set's keys; 0 when it has no element.
func (s *Set) keyLen() int {
	if len(s.Elements) == 0 {
		return 0
	}
	return len(s.Elements[0].Key)
}

// Expr is one expression of a rule: one of the types below.
type Expr any

// Reg is the offset of a register, in bytes; a verdict is no register.
type Reg int

// The expressions, named as in the kernel.
type (
	// Meta loads packet metadata, or sets it when Set.
	Meta struct {
		Key uint32
		Reg Reg
		Set bool
	}
	// Payload loads Len bytes of a header.
	Payload struct{ Base, Offset, Len, Reg int }
	// Cmp compares; Op is eq, neq, lt, lte, gt, gte from 0.
	Cmp struct {
		Op   uint32
		Reg  Reg
		Data []byte
	}
	// Range matches inside From to To, or outside when Not.
	Range struct {
		Reg      Reg
		From, To []byte
		Not      bool
	}
	// Bitwise computes To = From & Mask ^ Xor.
	Bitwise struct {
		From, To  Reg
		Mask, Xor []byte
	}
	// Lookup finds a register in a set; To >= 0 loads a map's data, ToVerdict does what it says.
	Lookup struct {
		Set       string
		Reg, To   Reg
		ToVerdict bool
		Not       bool
	}
	// Immediate loads constant bytes.
	Immediate struct {
		To   Reg
		Data []byte
	}
	// Verdict ends the rule; Code as in the kernel.
	Verdict struct {
		Code  int32
		Chain string
	}
	// Ct loads something of the connection.
	Ct struct {
		Key uint32
		Reg Reg
	}
	// Fib asks the routing table; only address types are known.
	Fib struct {
		Reg      Reg
		AddrType bool
		Src      bool
	}
	// Numgen loads a random number.
	Numgen struct {
		To             Reg
		Modulus, Start uint32
	}
	// NAT rewrites the destination (Dst) or the source to what registers hold; a negative one is not used.
	NAT struct {
		Dst        bool
		Addr, Port Reg
	}
	// Masquerade rewrites the source to the node's.
	Masquerade struct{}
	// Reject answers that nobody is there.
	Reject struct{}
	// Notrack keeps the packet out of conntrack.
	Notrack struct{}
	// Nothing has no effect on where a packet goes: counter, log, update.
	Nothing struct{}
	// XMatch and XTarget are iptables' own.
	XMatch struct {
		Name string
		Rev  uint32
		Info []byte
	}
	// XTarget is what iptables does.
	XTarget struct {
		Name string
		Rev  uint32
		Info []byte
	}
	// Chance matches with a probability.
	Chance struct {
		P   float64
		Not bool
	}
	// Ports matches when the source port (Src) or the destination port is in one of the ranges.
	Ports struct {
		Src, Not bool
		Ranges   [][2]uint16
	}
	// Original matches where a connection went to before it was translated.
	Original struct {
		Dst netip.Prefix
		Not bool
	}
	// State matches a first packet in one of these states.
	State struct{ New, DNAT, SNAT, Untracked, Not bool }
	// Recent matches a source that a list of xt_recent remembers; Set always, because it writes the list.
	Recent struct {
		List     string
		Set, Not bool
	}
	// Unknown is an expression this package does not know.
	Unknown struct{ Name string }
)

// Codes of verdicts.
const (
	CodeDrop     int32 = 0
	CodeAccept   int32 = 1
	CodeQueue    int32 = 3
	CodeContinue int32 = -1
	CodeBreak    int32 = -2
	CodeJump     int32 = -3
	CodeGoto     int32 = -4
	CodeReturn   int32 = -5
)
