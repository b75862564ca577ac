package sim

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
)

// verdict is how a chain ended.
type verdict uint8

const (
	verdictNone verdict = iota // the end of the chain, or return
	verdictAccept
	verdictDrop
	verdictReject
)

// place is a rule in its chain.
type place struct {
	chain *Chain
	rule  *Rule
}

// maxDepth is the kernel's limit of nested jumps.
const maxDepth = 16

// chain runs a chain; place is the rule that gave the verdict.
func (m *machine) chain(t *Table, c *Chain, depth int) (verdict, place) {
	for i := range c.Rules {
		r := &c.Rules[i]
		v := m.rule(t, r)
		switch v.Code {
		case CodeContinue:
			continue
		case CodeReturn:
			return verdictNone, place{c, r}
		case CodeAccept:
			return verdictAccept, place{c, r}
		case CodeJump, CodeGoto:
			to := t.Chain(v.Chain)
			if to == nil || depth == maxDepth {
				continue
			}
			if got, at := m.chain(t, to, depth+1); got != verdictNone || v.Code == CodeGoto {
				return got, at
			}
		case codeReject:
			return verdictReject, place{c, r}
		default:
			return verdictDrop, place{c, r}
		}
	}
	return verdictNone, place{}
}

// codeReject is our own: reject is a drop with an answer.
const codeReject int32 = -100

// rule runs one rule; CodeContinue means that the next one is asked.
func (m *machine) rule(t *Table, r *Rule) Verdict {
	for _, x := range r.Exprs {
		v, goes := m.expr(t, x)
		if !goes {
			return Verdict{Code: CodeContinue}
		}
		if v.Code != CodeContinue {
			return v
		}
	}
	return Verdict{Code: CodeContinue}
}

var goOn = Verdict{Code: CodeContinue}

// expr runs one expression; goes is false when the rule does not match.
func (m *machine) expr(t *Table, x Expr) (v Verdict, goes bool) {
	switch x := x.(type) {
	case Meta:
		return goOn, m.meta(x)
	case Payload:
		return goOn, m.payload(x)
	case Cmp:
		return goOn, m.compare(x)
	case Range:
		have := m.bytes(x.Reg, len(x.From))
		in := bytes.Compare(have, x.From) >= 0 && bytes.Compare(have, x.To) <= 0
		return goOn, in != x.Not
	case Bitwise:
		have := bytes.Clone(m.bytes(x.From, len(x.Mask)))
		for i := range have {
			have[i] = have[i]&x.Mask[i] ^ x.Xor[i]
		}
		m.put(x.To, have)
		return goOn, true
	case Lookup:
		return m.lookup(t, x)
	case Immediate:
		m.put(x.To, x.Data)
		return goOn, true
	case Verdict:
		return x, true
	case Ct:
		return goOn, m.ct(x)
	case Fib:
		return goOn, m.fib(x)
	case Numgen:
		n := m.choose(int(max(1, x.Modulus)))
		m.put(x.To, binary.NativeEndian.AppendUint32(nil, x.Start+uint32(n)))
		return goOn, true
	case NAT:
		return m.nat(x), true
	case Masquerade:
		m.sourced, m.masqueraded = true, true
		return Verdict{Code: CodeAccept}, true
	case Reject:
		return Verdict{Code: codeReject}, true
	case Notrack:
		m.untracked = true
		return goOn, true
	case Nothing:
		return goOn, true
	case Chance:
		return goOn, m.chance(x.P) != x.Not
	case Ports:
		return goOn, m.inPorts(x)
	case State:
		return goOn, m.inState(x)
	case Original:
		return goOn, !m.untracked && x.Dst.Contains(m.p.Dst.Addr()) != x.Not
	case Recent:
		return goOn, m.recent(x)
	case XMatch:
		return goOn, m.xmatch(x)
	case XTarget:
		return m.xtarget(x)
	case Unknown:
		return goOn, m.guess(x.Name)
	}
	return goOn, m.guess("expression of an unknown kind")
}

// bytes reads registers; what lies behind the last one reads as nothing.
func (m *machine) bytes(r Reg, n int) []byte {
	from := min(max(int(r), 0), len(m.reg))
	return m.reg[from:min(from+n, len(m.reg))]
}

// put writes registers, padded to whole ones with zeros as the kernel does.
func (m *machine) put(r Reg, b []byte) {
	if r < 0 || int(r) >= len(m.reg) {
		return
	}
	n := copy(m.reg[r:], b)
	for i := int(r) + n; i%4 != 0 && i < len(m.reg); i++ {
		m.reg[i] = 0
	}
}

func (m *machine) compare(x Cmp) bool {
	c := bytes.Compare(m.bytes(x.Reg, len(x.Data)), x.Data)
	return [...]bool{c == 0, c != 0, c < 0, c <= 0, c > 0, c >= 0}[min(x.Op, 5)]
}

func (m *machine) lookup(t *Table, x Lookup) (Verdict, bool) {
	s := t.Sets[x.Set]
	if s == nil {
		return goOn, m.guess("set " + x.Set)
	}
	el := s.find(m.bytes(x.Reg, s.keyLen()))
	switch {
	case x.ToVerdict:
		if el == nil || el.Do == nil {
			return goOn, false
		}
		return *el.Do, true
	case (el != nil) == x.Not:
		return goOn, false
	case el != nil && x.To >= 0:
		m.put(x.To, el.Data)
	}
	return goOn, true
}

// Keys of Meta.
const (
	metaProtocol = 1
	metaMark     = 3
	metaInName   = 6
	metaOutName  = 7
	metaNFProto  = 15
	metaL4Proto  = 16
)

func (m *machine) meta(x Meta) bool {
	if x.Set {
		if x.Key == metaMark {
			m.mark = binary.NativeEndian.Uint32(m.bytes(x.Reg, 4))
		}
		return true
	}
	name := func(s string) []byte { return append([]byte(s), make([]byte, 16-min(len(s), 16))...) }
	is4 := m.p.Dst.Addr().Is4()
	switch x.Key {
	case metaMark:
		m.put(x.Reg, binary.NativeEndian.AppendUint32(nil, m.mark))
	case metaL4Proto:
		m.put(x.Reg, []byte{m.p.Proto})
	case metaNFProto:
		m.put(x.Reg, []byte{map[bool]byte{true: IPv4, false: IPv6}[is4]})
	case metaProtocol:
		m.put(x.Reg, map[bool][]byte{true: {0x08, 0x00}, false: {0x86, 0xdd}}[is4])
	case metaInName:
		m.put(x.Reg, name(m.in()))
	case metaOutName:
		out := m.out()
		if out == "" && m.hook >= Forward {
			return m.guess("the outgoing interface")
		}
		m.put(x.Reg, name(out))
	default:
		return m.guess("meta key")
	}
	return true
}

// in is the interface the packet came in by at the present hook.
func (m *machine) in() string {
	switch {
	case m.hook == Output || m.hook == Postrouting:
		return ""
	case m.p.In == "":
		return "lo"
	}
	return m.p.In
}

func (m *machine) out() string {
	if m.hook == Prerouting || m.hook == Input {
		return ""
	}
	if m.world.Local(m.dst.Addr()) {
		return "lo"
	}
	if m.world.Out == nil {
		return ""
	}
	return m.world.Out(m.dst.Addr())
}

// header builds as much of the packet's headers as rules look at.
func (m *machine) header(base int) []byte {
	src, dst := m.p.Src, m.dst
	switch {
	case base == 2: // transport
		b := binary.BigEndian.AppendUint16(nil, src.Port())
		b = binary.BigEndian.AppendUint16(b, dst.Port())
		if m.p.Proto != 6 {
			return append(b, 0, 8, 0, 0)
		}
		return append(b, 0, 0, 0, 1, 0, 0, 0, 0, 5<<4, 2 /* SYN */, 0xff, 0xff, 0, 0, 0, 0)
	case base == 1 && dst.Addr().Is4():
		b := []byte{0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, m.p.Proto, 0, 0}
		return append(append(b, src.Addr().AsSlice()...), dst.Addr().AsSlice()...)
	case base == 1:
		b := []byte{0x60, 0, 0, 0, 0, 20, m.p.Proto, 64}
		return append(append(b, src.Addr().AsSlice()...), dst.Addr().AsSlice()...)
	}
	return nil
}

func (m *machine) payload(x Payload) bool {
	h := m.header(x.Base)
	if x.Offset < 0 || x.Len < 0 || x.Offset+x.Len > len(h) {
		return m.guess("a header beyond network and transport")
	}
	m.put(Reg(x.Reg), h[x.Offset:x.Offset+x.Len])
	return true
}

// Keys of Ct, and bits of its state and status.
const (
	ctState     = 0
	ctDirection = 1
	ctStatus    = 2
	ctMark      = 3
	ctSrc       = 8
	ctDst       = 9
	ctProtocol  = 10
	ctPortSrc   = 11
	ctPortDst   = 12
	ctSrcIP     = 19
	ctDstIP     = 20
	ctSrcIP6    = 21
	ctDstIP6    = 22

	stateNew       = 8
	stateUntracked = 64
	statusSNAT     = 0x10
	statusDNAT     = 0x20
)

func (m *machine) ct(x Ct) bool {
	number := func(n uint32) bool {
		m.put(x.Reg, binary.NativeEndian.AppendUint32(nil, n))
		return true
	}
	if m.untracked && x.Key != ctState {
		return false
	}
	switch x.Key {
	case ctState:
		if m.untracked {
			return number(stateUntracked)
		}
		return number(stateNew)
	case ctStatus:
		var s uint32
		if m.translated {
			s |= statusDNAT
		}
		if m.sourced {
			s |= statusSNAT
		}
		return number(s)
	case ctMark:
		return number(0)
	case ctDirection, ctProtocol:
		m.put(x.Reg, []byte{map[uint32]byte{ctDirection: 0, ctProtocol: m.p.Proto}[x.Key]})
	case ctDst, ctDstIP, ctDstIP6:
		m.put(x.Reg, m.p.Dst.Addr().AsSlice())
	case ctSrc, ctSrcIP, ctSrcIP6:
		m.put(x.Reg, m.p.Src.Addr().AsSlice())
	case ctPortDst:
		m.put(x.Reg, binary.BigEndian.AppendUint16(nil, m.p.Dst.Port()))
	case ctPortSrc:
		m.put(x.Reg, binary.BigEndian.AppendUint16(nil, m.p.Src.Port()))
	default:
		return m.guess("ct key")
	}
	return true
}

func (m *machine) inPorts(x Ports) bool {
	p := m.dst.Port()
	if x.Src {
		p = m.p.Src.Port()
	}
	in := slices.ContainsFunc(x.Ranges, func(r [2]uint16) bool { return r[0] <= p && p <= r[1] })
	return in != x.Not
}

func (m *machine) inState(x State) bool {
	in := x.New && !m.untracked || x.Untracked && m.untracked || x.DNAT && m.translated || x.SNAT && m.sourced
	return in != x.Not
}

// recent asks the list, if the world knows it.
func (m *machine) recent(x Recent) bool {
	switch {
	case x.Set:
		return !x.Not
	case m.world.Recent == nil:
		return m.guess("what the list " + x.List + " of xt_recent remembers")
	}
	return m.world.Recent(x.List, m.p.Src.Addr()) != x.Not
}

// Types of addresses.
const (
	typeUnicast = 1
	typeLocal   = 2
)

func (m *machine) addrType(a netip.Addr) uint32 {
	if m.world.Local(a) {
		return typeLocal
	}
	return typeUnicast
}

func (m *machine) fib(x Fib) bool {
	if !x.AddrType {
		return m.guess("fib")
	}
	a := m.dst.Addr()
	if x.Src {
		a = m.p.Src.Addr()
	}
	m.put(x.Reg, binary.NativeEndian.AppendUint32(nil, m.addrType(a)))
	return true
}

func (m *machine) nat(x NAT) Verdict {
	if !x.Dst {
		m.sourced, m.masqueraded = true, true
		return Verdict{Code: CodeAccept}
	}
	to := m.dst
	if x.Addr >= 0 {
		a, _ := netip.AddrFromSlice(m.bytes(x.Addr, to.Addr().BitLen()/8))
		to = netip.AddrPortFrom(a, to.Port())
	}
	if x.Port >= 0 {
		to = netip.AddrPortFrom(to.Addr(), binary.BigEndian.Uint16(m.bytes(x.Port, 2)))
	}
	m.dst, m.translated = to, true
	return Verdict{Code: CodeAccept}
}
