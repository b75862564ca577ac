package nft

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"nodelet/internal/nft/sim"
)

// Everything reads all tables of the families a packet can meet, anybody's,
// with their rules decoded: what package sim runs packets through. It reads
// again when somebody changed them meanwhile, a few times: a set that goes
// between its name and its elements is no error.
func (c *Conn) Everything(ctx context.Context) (rs *sim.Ruleset, err error) {
	for range attempts {
		before, failed := c.Generation(ctx)
		if failed != nil {
			return nil, failed
		}
		rs, err = c.everything(ctx)
		after, failed := c.Generation(ctx)
		if failed != nil || before.ID == after.ID {
			return rs, errors.Join(err, failed)
		}
	}
	return rs, err
}

func (c *Conn) everything(ctx context.Context) (*sim.Ruleset, error) {
	tables, err := c.tables(ctx)
	if err != nil {
		return nil, err
	}
	rs := &sim.Ruleset{}
	for _, t := range tables {
		if t.Family != IPv4 && t.Family != IPv6 && t.Family != Inet {
			continue
		}
		st, err := c.simTable(ctx, t)
		if err != nil {
			return nil, err
		}
		rs.Tables = append(rs.Tables, *st)
	}
	return rs, nil
}

func (c *Conn) simTable(ctx context.Context, t foundTable) (*sim.Table, error) {
	out := &sim.Table{Family: uint8(t.Family), Name: t.Name, Dormant: t.dormant, Sets: map[string]*sim.Set{}}
	chains, err := c.chains(ctx, t.Table)
	if err != nil {
		return nil, err
	}
	for i := range chains {
		out.Chains = append(out.Chains, simChain(chains[i].Name, chains[i].Base))
	}
	if err := c.simRules(ctx, t.Table, out); err != nil {
		return nil, err
	}
	sets, err := c.sets(ctx, t.Table)
	if err != nil {
		return nil, err
	}
	for i := range sets {
		es, err := c.Elements(ctx, t.Table, sets[i].Name)
		if err != nil {
			return nil, err
		}
		out.Sets[sets[i].Name] = simSet(es)
	}
	return out, nil
}

func simChain(name string, b *Base) sim.Chain {
	c := sim.Chain{Name: name}
	if b != nil {
		c.Base = &sim.Base{NAT: b.Type == NAT, Hook: int(b.Hook), Priority: b.Priority, Drop: b.Drop}
	}
	return c
}

func simSet(es []Element) *sim.Set {
	out := make([]sim.Element, len(es))
	for i, el := range es {
		out[i] = sim.Element{Key: el.Key, KeyEnd: el.KeyEnd, Data: el.Data}
		if el.Do.Kind != NoAction {
			out[i].Do = &sim.Verdict{Code: simCode(el.Do), Chain: el.Do.Chain}
		}
	}
	return sim.NewSet(out)
}

func simCode(a Action) int32 {
	if a.Kind == DoAccept {
		return sim.CodeAccept
	}
	return a.code()
}

func (c *Conn) simRules(ctx context.Context, t Table, out *sim.Table) error {
	ask := request(unix.NFT_MSG_GETRULE, t.Family, func(e *encoder) { e.str(unix.NFTA_RULE_TABLE, t.Name) })
	return c.dump(ctx, "list rules of "+t.String(), ask, dumpHandler{
		restart: func() {
			for i := range out.Chains {
				out.Chains[i].Rules = nil
			}
		},
		each: func(_ Family, b []byte) {
			table, chain, rule := parseRule(b)
			ch := out.Chain(chain)
			if table != t.Name || ch == nil {
				return
			}
			r := sim.Rule{Handle: rule.Handle, Comment: rule.Comment}
			attrs(b, func(typ uint16, v []byte) {
				if typ == unix.NFTA_RULE_EXPRESSIONS {
					r.Exprs = decodeExprs(bytes.Clone(v)) // the buffer is used again
				}
			})
			ch.Rules = append(ch.Rules, r)
		},
	})
}

// Simulated gives what package sim runs packets through, of a table that is
// only wanted: no kernel is asked.
func (r *Ruleset) Simulated() (*sim.Table, error) {
	out := &sim.Table{Family: uint8(r.Table.Family), Name: r.Table.Name, Sets: map[string]*sim.Set{}}
	for i := range r.Sets {
		out.Sets[r.Sets[i].Name] = simSet(r.Sets[i].Elements)
	}
	for _, c := range r.Chains {
		sc := simChain(c.Name, c.Base)
		for i, rule := range c.Rules {
			encoded, err := encodeRule(r.Table.Family, rule)
			if err != nil {
				return nil, fmt.Errorf("encode rule %q of chain %s %s: %w", rule, r.Table, c.Name, err)
			}
			sc.Rules = append(sc.Rules, sim.Rule{Handle: uint64(i + 1), Comment: rule.Comment, Exprs: decodeExprs(encoded)})
		}
		out.Chains = append(out.Chains, sc)
	}
	return out, nil
}

func decodeExprs(list []byte) (out []sim.Expr) {
	attrs(list, func(_ uint16, v []byte) {
		var name string
		var data []byte
		attrs(v, func(typ uint16, v []byte) {
			switch typ {
			case unix.NFTA_EXPR_NAME:
				name = cstr(v)
			case unix.NFTA_EXPR_DATA:
				data = v
			}
		})
		out = append(out, decodeExpr(name, fieldsOf(data)))
	})
	return out
}

// fields are the attributes of an expression by type.
type fields map[uint16][]byte

func fieldsOf(b []byte) fields {
	f := fields{}
	attrs(b, func(typ uint16, v []byte) { f[typ] = v })
	return f
}

func (f fields) u32(typ uint16) uint32 { return be32(f[typ]) }

func (f fields) value(typ uint16) []byte { return fieldsOf(f[typ])[unix.NFTA_DATA_VALUE] }

// reg gives the offset of a register: the kernel has names for four of 16
// bytes and for sixteen of 4; -1 when the attribute is not there.
func (f fields) reg(typ uint16) sim.Reg {
	if _, ok := f[typ]; !ok {
		return -1
	}
	n := int(f.u32(typ))
	if n >= unix.NFT_REG32_00 {
		return sim.Reg(n-unix.NFT_REG32_00) * 4
	}
	return sim.Reg(n-1) * 16
}

func decodeExpr(name string, f fields) sim.Expr {
	decoders := map[string]func(fields) sim.Expr{
		"meta": decodeMeta, "payload": decodePayload, "cmp": decodeCmp, "range": decodeRange, "bitwise": decodeBitwise,
		"lookup": decodeLookup, "immediate": decodeImmediate, "ct": decodeCt, "fib": decodeFib, "numgen": decodeNumgen, "nat": decodeNAT,
		"match": func(f fields) sim.Expr {
			return sim.XMatch{Name: cstr(f[unix.NFTA_MATCH_NAME]), Rev: f.u32(unix.NFTA_MATCH_REV), Info: f[unix.NFTA_MATCH_INFO]}
		},
		"target": func(f fields) sim.Expr {
			return sim.XTarget{Name: cstr(f[unix.NFTA_TARGET_NAME]), Rev: f.u32(unix.NFTA_TARGET_REV), Info: f[unix.NFTA_TARGET_INFO]}
		},
		"masq":    func(fields) sim.Expr { return sim.Masquerade{} },
		"reject":  func(fields) sim.Expr { return sim.Reject{} },
		"notrack": func(fields) sim.Expr { return sim.Notrack{} },
	}
	if decode, ok := decoders[name]; ok {
		return decode(f)
	}
	if slices.Contains([]string{"counter", "log", "dynset", "last"}, name) {
		return sim.Nothing{}
	}
	return sim.Unknown{Name: name}
}

func decodeMeta(f fields) sim.Expr {
	if r := f.reg(unix.NFTA_META_SREG); r >= 0 {
		return sim.Meta{Key: f.u32(unix.NFTA_META_KEY), Reg: r, Set: true}
	}
	return sim.Meta{Key: f.u32(unix.NFTA_META_KEY), Reg: f.reg(unix.NFTA_META_DREG)}
}

func decodePayload(f fields) sim.Expr {
	if _, writes := f[unix.NFTA_PAYLOAD_SREG]; writes {
		return sim.Unknown{Name: "payload write"}
	}
	return sim.Payload{
		Base: int(f.u32(unix.NFTA_PAYLOAD_BASE)), Offset: int(f.u32(unix.NFTA_PAYLOAD_OFFSET)),
		Len: int(f.u32(unix.NFTA_PAYLOAD_LEN)), Reg: int(f.reg(unix.NFTA_PAYLOAD_DREG)),
	}
}

func decodeCmp(f fields) sim.Expr {
	return sim.Cmp{Op: f.u32(unix.NFTA_CMP_OP), Reg: f.reg(unix.NFTA_CMP_SREG), Data: f.value(unix.NFTA_CMP_DATA)}
}

func decodeRange(f fields) sim.Expr {
	return sim.Range{
		Reg: f.reg(unix.NFTA_RANGE_SREG), Not: f.u32(unix.NFTA_RANGE_OP) == unix.NFT_RANGE_NEQ,
		From: f.value(unix.NFTA_RANGE_FROM_DATA), To: f.value(unix.NFTA_RANGE_TO_DATA),
	}
}

func decodeBitwise(f fields) sim.Expr {
	x := sim.Bitwise{
		From: f.reg(unix.NFTA_BITWISE_SREG), To: f.reg(unix.NFTA_BITWISE_DREG),
		Mask: f.value(unix.NFTA_BITWISE_MASK), Xor: f.value(unix.NFTA_BITWISE_XOR),
	}
	if len(x.Mask) == 0 || len(x.Mask) != len(x.Xor) {
		return sim.Unknown{Name: "bitwise shift"}
	}
	return x
}

func decodeLookup(f fields) sim.Expr {
	const toVerdict = 0
	x := sim.Lookup{Set: cstr(f[unix.NFTA_LOOKUP_SET]), Reg: f.reg(unix.NFTA_LOOKUP_SREG), To: f.reg(unix.NFTA_LOOKUP_DREG)}
	if _, ok := f[unix.NFTA_LOOKUP_DREG]; ok && f.u32(unix.NFTA_LOOKUP_DREG) == toVerdict {
		x.ToVerdict = true
	}
	x.Not = f.u32(unix.NFTA_LOOKUP_FLAGS)&unix.NFT_LOOKUP_F_INV != 0
	return x
}

func decodeImmediate(f fields) sim.Expr {
	data := fieldsOf(f[unix.NFTA_IMMEDIATE_DATA])
	if v, ok := data[unix.NFTA_DATA_VERDICT]; ok {
		a := fieldsOf(v)
		return sim.Verdict{Code: int32(a.u32(unix.NFTA_VERDICT_CODE)), Chain: cstr(a[unix.NFTA_VERDICT_CHAIN])}
	}
	return sim.Immediate{To: f.reg(unix.NFTA_IMMEDIATE_DREG), Data: data[unix.NFTA_DATA_VALUE]}
}

func decodeCt(f fields) sim.Expr {
	if _, writes := f[unix.NFTA_CT_SREG]; writes {
		return sim.Nothing{}
	}
	return sim.Ct{Key: f.u32(unix.NFTA_CT_KEY), Reg: f.reg(unix.NFTA_CT_DREG)}
}

func decodeFib(f fields) sim.Expr {
	return sim.Fib{
		Reg: f.reg(unix.NFTA_FIB_DREG), AddrType: f.u32(unix.NFTA_FIB_RESULT) == unix.NFT_FIB_RESULT_ADDRTYPE,
		Src: f.u32(unix.NFTA_FIB_FLAGS)&unix.NFTA_FIB_F_SADDR != 0,
	}
}

func decodeNumgen(f fields) sim.Expr {
	return sim.Numgen{To: f.reg(unix.NFTA_NG_DREG), Modulus: f.u32(unix.NFTA_NG_MODULUS), Start: f.u32(unix.NFTA_NG_OFFSET)}
}

func decodeNAT(f fields) sim.Expr {
	return sim.NAT{
		Dst:  f.u32(unix.NFTA_NAT_TYPE) == unix.NFT_NAT_DNAT,
		Addr: f.reg(unix.NFTA_NAT_REG_ADDR_MIN), Port: f.reg(unix.NFTA_NAT_REG_PROTO_MIN),
	}
}
