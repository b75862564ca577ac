package sim

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// The options of iptables rules, as iptables-save prints them. Each becomes
// the expressions that nf_tables has for it.

const scratch Reg = 16 // the register that options are compared in

// option takes one option with its values; false when it is not known.
func (r *ruleReader) option(name string, not bool) bool {
	switch name {
	case "-s", "-d":
		return r.address(name == "-s", r.value(), not)
	case "-i", "-o":
		r.device(name == "-i", r.value(), not)
		return true
	case "-p":
		return r.protocol(r.value(), not)
	case "-m":
		r.endMatch()
		r.match = r.value()
		return true
	case "--comment":
		r.rule.Comment = r.value()
		return true
	case "--sport", "--dport", "--sports", "--dports":
		return r.ports(strings.HasPrefix(name, "--s"), r.value(), not)
	case "--tcp-flags":
		return r.flags(r.value(), r.value(), not)
	case "--ctstate", "--state":
		r.state(r.value(), not)
		return true
	case "--ctorigdst":
		p, err := netip.ParsePrefix(r.value())
		r.add(Original{Dst: p, Not: not})
		return err == nil
	case "--mark":
		value, mask, ok := numbers(r.value())
		r.add(Meta{Key: metaMark, Reg: scratch}, masked(native(mask)), equal(native(value), not))
		return ok && r.match == "mark"
	case "--src-type", "--dst-type":
		return r.addrType(name == "--src-type", r.value(), not)
	case "--mode":
		return r.value() == "random"
	case "--probability":
		p, err := strconv.ParseFloat(r.value(), 64)
		r.add(Chance{P: p, Not: not})
		return err == nil
	case "--nfacct-name": // it counts
		r.value()
		return true
	}
	return r.match == "recent" && r.recentOption(name, not)
}

func native(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

func equal(data []byte, not bool) Cmp {
	c := Cmp{Reg: scratch, Data: data}
	if not {
		c.Op = 1
	}
	return c
}

func masked(mask []byte) Bitwise {
	return Bitwise{From: scratch, To: scratch, Mask: mask, Xor: make([]byte, len(mask))}
}

// address reads 10.0.0.0/8, and masks that are no prefix: 0.0.0.1/0.0.0.15.
func (r *ruleReader) address(src bool, text string, not bool) bool {
	host, mask, _ := strings.Cut(text, "/")
	a, err := netip.ParseAddr(host)
	if err != nil || a.Is6() != r.ipv6 {
		return false
	}
	bits := bytes.Repeat([]byte{0xff}, a.BitLen()/8)
	if n, err := strconv.Atoi(mask); err == nil {
		whole := netip.PrefixFrom(netip.IPv4Unspecified(), n)
		if r.ipv6 {
			whole = netip.PrefixFrom(netip.IPv6Unspecified(), n)
		}
		if !whole.IsValid() {
			return false
		}
		for i := range bits {
			bits[i] = byte(uint16(0xff00) >> min(max(n-8*i, 0), 8))
		}
	} else if mask != "" {
		m, err := netip.ParseAddr(mask)
		if err != nil || m.Is6() != r.ipv6 {
			return false
		}
		bits = m.AsSlice()
	}
	offset := map[[2]bool]int{{true, false}: 12, {false, false}: 16, {true, true}: 8, {false, true}: 24}[[2]bool{src, r.ipv6}]
	want := a.AsSlice()
	for i := range want {
		want[i] &= bits[i]
	}
	r.add(Payload{Base: 1, Offset: offset, Len: len(bits), Reg: int(scratch)}, masked(bits), equal(want, not))
	return true
}

// device reads an interface's name; one that ends in + stands for all that begin so.
func (r *ruleReader) device(in bool, name string, not bool) {
	key := uint32(metaOutName)
	if in {
		key = metaInName
	}
	data := append([]byte(name), 0)
	if short, ok := strings.CutSuffix(name, "+"); ok {
		data = []byte(short)
	}
	r.add(Meta{Key: key, Reg: scratch}, equal(data, not))
}

func (r *ruleReader) protocol(name string, not bool) bool {
	n, known := map[string]uint64{"tcp": 6, "udp": 17, "sctp": 132, "icmp": 1, "ipv6-icmp": 58, "esp": 50, "ah": 51, "dccp": 33, "udplite": 136, "igmp": 2, "gre": 47}[name]
	if !known {
		var err error
		if n, err = strconv.ParseUint(name, 10, 8); err != nil {
			return name == "all"
		}
	}
	r.match = name // tcp's own options need no -m
	r.add(Meta{Key: metaL4Proto, Reg: scratch}, equal([]byte{byte(n)}, not))
	return true
}

// ports reads 80, 1000:2000, and lists of them.
func (r *ruleReader) ports(src bool, text string, not bool) bool {
	x := Ports{Src: src, Not: not}
	for one := range strings.SplitSeq(text, ",") {
		from, to, between := strings.Cut(one, ":")
		a, err := strconv.ParseUint(from, 10, 16)
		if err != nil && from != "" {
			return false
		}
		b := a
		if between {
			if b, err = strconv.ParseUint(to, 10, 16); err != nil {
				b = 0xffff
			}
		}
		x.Ranges = append(x.Ranges, [2]uint16{uint16(a), uint16(b)})
	}
	r.add(x)
	return true
}

// flags reads which of TCP's flags are looked at, and which of these are set.
func (r *ruleReader) flags(looked, set string, not bool) bool {
	bits := func(text string) (b byte) {
		for name := range strings.SplitSeq(text, ",") {
			b |= map[string]byte{"FIN": 1, "SYN": 2, "RST": 4, "PSH": 8, "ACK": 16, "URG": 32, "ALL": 63}[name]
		}
		return b
	}
	const flagsAt = 13
	r.add(Payload{Base: 2, Offset: flagsAt, Len: 1, Reg: int(scratch)}, masked([]byte{bits(looked)}), equal([]byte{bits(set)}, not))
	return true
}

func (r *ruleReader) state(list string, not bool) {
	x := State{Not: not}
	for name := range strings.SplitSeq(list, ",") {
		switch name {
		case "NEW":
			x.New = true
		case "DNAT":
			x.DNAT = true
		case "SNAT":
			x.SNAT = true
		case "UNTRACKED":
			x.Untracked = true
		}
	}
	r.add(x)
}

func (r *ruleReader) addrType(src bool, name string, not bool) bool {
	kind, ok := map[string]uint32{"LOCAL": typeLocal, "UNICAST": typeUnicast, "BROADCAST": 3, "MULTICAST": 5}[name]
	r.add(Fib{Reg: scratch, AddrType: true, Src: src}, equal(native(kind), not))
	return ok
}

func (r *ruleReader) recentOption(name string, not bool) bool {
	x := &r.recent
	x.Not = x.Not || not
	switch name {
	case "--name":
		x.List = r.value()
	case "--set":
		x.Set = true
	case "--rcheck", "--update", "--remove", "--reap", "--rsource":
	case "--seconds", "--hitcount", "--mask":
		r.value()
	default:
		return false
	}
	return true
}

// harmless are targets that do not decide where a packet goes.
var harmless = []string{"LOG", "NFLOG", "TCPMSS", "CONNMARK", "CT", "CHECKSUM", "CLASSIFY", "DSCP", "TOS", "TTL", "HL", "SECMARK", "CONNSECMARK", "TRACE"}

// target reads what comes behind -j or -g.
func (r *ruleReader) target(isGoto bool) {
	name := r.value()
	options := map[string]string{}
	for len(r.words) > 0 {
		option := r.value()
		if len(r.words) > 0 && !strings.HasPrefix(r.words[0], "--") {
			options[option] = r.value()
			continue
		}
		options[option] = ""
	}
	_, notrack := options["--notrack"]
	switch {
	case isGoto:
		r.add(Verdict{Code: CodeGoto, Chain: name})
	case name == "ACCEPT":
		r.add(Verdict{Code: CodeAccept})
	case name == "DROP":
		r.add(Verdict{Code: CodeDrop})
	case name == "RETURN":
		r.add(Verdict{Code: CodeReturn})
	case name == "REJECT":
		r.add(Reject{})
	case name == "MASQUERADE", name == "SNAT":
		r.add(Masquerade{})
	case name == "DNAT":
		r.dnat(options["--to-destination"])
	case name == "MARK":
		r.mark(options["--set-xmark"])
	case name == "CT" && notrack, name == "NOTRACK":
		r.add(Notrack{})
	case slices.Contains(harmless, name):
		r.add(Nothing{})
	case name != "" && strings.ToUpper(name) == name && len(options) > 0: // an extension with options of its own
		r.add(Unknown{Name: "iptables target " + name})
	default:
		r.add(Verdict{Code: CodeJump, Chain: name})
	}
}

// mark is and-not the mask, xor the value.
func (r *ruleReader) mark(text string) {
	value, mask, ok := numbers(text)
	if !ok {
		r.add(Unknown{Name: "iptables target MARK"})
		return
	}
	r.add(Meta{Key: metaMark, Reg: scratch}, Bitwise{From: scratch, To: scratch, Mask: native(^mask), Xor: native(value)},
		Meta{Key: metaMark, Reg: scratch, Set: true})
}

func (r *ruleReader) dnat(to string) {
	x := NAT{Dst: true, Addr: -1, Port: -1}
	if ap, err := netip.ParseAddrPort(to); err == nil {
		x.Addr, x.Port = scratch, scratch+16
		r.add(Immediate{To: x.Addr, Data: ap.Addr().AsSlice()}, Immediate{To: x.Port, Data: binary.BigEndian.AppendUint16(nil, ap.Port())}, x)
		return
	}
	a, err := netip.ParseAddr(strings.Trim(to, "[]"))
	if err != nil { // a range: one of many
		r.add(Unknown{Name: "iptables target DNAT to " + to})
		return
	}
	x.Addr = scratch
	r.add(Immediate{To: x.Addr, Data: a.AsSlice()}, x)
}
