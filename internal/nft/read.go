package nft

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// Found is the content of a table as the kernel has it. Rules are not decoded:
// Digest tells whether one is ours and as we wrote it.
type Found struct {
	// Dormant: somebody has put the table to sleep; its chains see no packets.
	Dormant bool
	Chains  []FoundChain
	Sets    []FoundSet
}

// FoundChain is a chain with its rules in order.
type FoundChain struct {
	Name  string
	Base  *Base
	Rules []FoundRule
}

// FoundRule is one rule.
type FoundRule struct {
	Handle  uint64
	Comment string
	// Digest is zero when the rule does not carry one: somebody else's.
	Digest Digest
}

// FoundSet is a set or map. The elements of a dynamic set are not read with it (see Conn.Elements).
type FoundSet struct {
	Name                string
	KeyMagic, KeyLen    uint32
	DataMagic, DataLen  uint32
	Interval, Timeout   bool
	Dynamic, Map, Other bool
	Elements            []Element
}

// Chain gives the chain with that name, nil when there is none.
func (f *Found) Chain(name string) *FoundChain {
	for i := range f.Chains {
		if f.Chains[i].Name == name {
			return &f.Chains[i]
		}
	}
	return nil
}

// Set gives the set with that name, nil when there is none.
func (f *Found) Set(name string) *FoundSet {
	for i := range f.Sets {
		if f.Sets[i].Name == name {
			return &f.Sets[i]
		}
	}
	return nil
}

// Is tells whether the set found has the wanted one's types and kind.
func (s *FoundSet) Is(want *Set) bool {
	keyMagic, keyLen := want.Key.magicAndLen()
	if s.KeyMagic != keyMagic || s.KeyLen != keyLen || s.Map != want.IsMap() || s.Other {
		return false
	}
	if s.Interval != want.Interval || s.Timeout != want.Timeout || s.Dynamic != want.Dynamic {
		return false
	}
	if !want.IsMap() {
		return true
	}
	magic, length := want.Data.magicAndLen()
	// The kernel reports no length for verdicts that is worth comparing.
	return s.DataMagic == magic && (s.DataLen == length || want.Data[0] == Verdict)
}

// dump asks for a listing and hands out its messages. The kernel says EINTR
// when rules changed meanwhile; the listing is then begun again, and restart
// is called so that the caller drops what it has. So it is when whole says that
// the listing cannot be right.
func (c *Conn) dump(ctx context.Context, what string, request func(*encoder, uint32), h dumpHandler) error {
	return c.retry(ctx, func() error {
		h.restart()
		c.seq++
		var e encoder
		request(&e, c.seq)
		if err := c.send(e.b); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		for {
			n, _, err := unix.Recvfrom(c.fd, c.receive, 0)
			if err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
			var done bool
			var fail error
			eachMessage(c.receive[:n], func(m reply) {
				if m.seq != c.seq {
					return
				}
				switch {
				case m.flags&unix.NLM_F_DUMP_INTR != 0:
					fail = &Error{What: what, Errno: unix.EINTR}
				case m.typ == unix.NLMSG_ERROR:
					done = true
					if errno := m.errno(); errno != 0 {
						fail = &Error{What: what, Errno: errno, Hint: m.hint()}
					}
				case m.typ == unix.NLMSG_DONE:
					done = true
				case len(m.body) >= 4:
					h.each(Family(m.body[0]), m.body[4:])
				}
			})
			if done && fail == nil && h.whole != nil && !h.whole() {
				fail = &Error{What: what, Errno: unix.EAGAIN}
			}
			if done || fail != nil {
				return fail
			}
		}
	})
}

type dumpHandler struct {
	restart func()
	whole   func() bool // may be nil
	each    func(f Family, attributes []byte)
}

func request(typ uint16, f Family, fill func(*encoder)) func(*encoder, uint32) {
	return func(e *encoder, seq uint32) {
		at := e.begin(subsysNftables|typ, unix.NLM_F_REQUEST|unix.NLM_F_DUMP, f, seq)
		if fill != nil {
			fill(e)
		}
		e.end(at)
	}
}

// foundTable is a table with its flags.
type foundTable struct {
	Table
	dormant bool
}

func (c *Conn) tables(ctx context.Context) (found []foundTable, err error) {
	err = c.dump(ctx, "list tables", request(unix.NFT_MSG_GETTABLE, 0, nil), dumpHandler{
		restart: func() { found = nil },
		each: func(f Family, b []byte) {
			t := foundTable{Table: Table{Family: f}}
			attrs(b, func(typ uint16, v []byte) {
				switch typ {
				case unix.NFTA_TABLE_NAME:
					t.Name = cstr(v)
				case unix.NFTA_TABLE_FLAGS:
					t.dormant = be32(v)&tableDormant != 0
				}
			})
			found = append(found, t)
		},
	})
	return found, err
}

// Tables lists the tables of all families.
func (c *Conn) Tables(ctx context.Context) ([]Table, error) {
	found, err := c.tables(ctx)
	out := make([]Table, len(found))
	for i := range found {
		out[i] = found[i].Table
	}
	return out, err
}

// HasTable tells whether the table exists.
func (c *Conn) HasTable(ctx context.Context, t Table) (bool, error) {
	tables, err := c.Tables(ctx)
	return slices.Contains(tables, t), err
}

// Read gives all that a table holds; nil when the table does not exist.
func (c *Conn) Read(ctx context.Context, t Table) (*Found, error) {
	tables, err := c.tables(ctx)
	at := slices.IndexFunc(tables, func(f foundTable) bool { return f.Table == t })
	if err != nil || at < 0 {
		return nil, err
	}
	found := Found{Dormant: tables[at].dormant}
	if found.Chains, err = c.chains(ctx, t); err != nil {
		return nil, err
	}
	if err = c.rules(ctx, t, &found); err != nil {
		return nil, err
	}
	if found.Sets, err = c.sets(ctx, t); err != nil {
		return nil, err
	}
	for i := range found.Sets {
		s := &found.Sets[i]
		if s.Dynamic {
			continue
		}
		if s.Elements, err = c.Elements(ctx, t, s.Name); err != nil {
			return nil, err
		}
	}
	return &found, nil
}

func (c *Conn) chains(ctx context.Context, t Table) (found []FoundChain, err error) {
	err = c.dump(ctx, "list chains of "+t.String(), request(unix.NFT_MSG_GETCHAIN, t.Family, nil), dumpHandler{
		restart: func() { found = nil },
		each: func(_ Family, b []byte) {
			if table, ch := parseChain(b); table == t.Name {
				found = append(found, ch)
			}
		},
	})
	return found, err
}

func parseChain(b []byte) (table string, c FoundChain) {
	var base Base
	attrs(b, func(typ uint16, v []byte) {
		switch typ {
		case unix.NFTA_CHAIN_TABLE:
			table = cstr(v)
		case unix.NFTA_CHAIN_NAME:
			c.Name = cstr(v)
		case unix.NFTA_CHAIN_TYPE:
			base.Type = ChainType(cstr(v))
		case unix.NFTA_CHAIN_POLICY:
			base.Drop = be32(v) == 0
		case unix.NFTA_CHAIN_HOOK:
			c.Base = &base
			attrs(v, func(typ uint16, v []byte) {
				switch typ {
				case unix.NFTA_HOOK_HOOKNUM:
					base.Hook = Hook(be32(v))
				case unix.NFTA_HOOK_PRIORITY:
					base.Priority = int(int32(be32(v)))
				}
			})
		}
	})
	return table, c
}

func (c *Conn) rules(ctx context.Context, t Table, found *Found) error {
	ask := request(unix.NFT_MSG_GETRULE, t.Family, func(e *encoder) { e.str(unix.NFTA_RULE_TABLE, t.Name) })
	return c.dump(ctx, "list rules of "+t.String(), ask, dumpHandler{
		restart: func() {
			for i := range found.Chains {
				found.Chains[i].Rules = nil
			}
		},
		each: func(_ Family, b []byte) {
			table, chain, rule := parseRule(b)
			if ch := found.Chain(chain); table == t.Name && ch != nil {
				ch.Rules = append(ch.Rules, rule)
			}
		},
	})
}

func parseRule(b []byte) (table, chain string, r FoundRule) {
	attrs(b, func(typ uint16, v []byte) {
		switch typ {
		case unix.NFTA_RULE_TABLE:
			table = cstr(v)
		case unix.NFTA_RULE_CHAIN:
			chain = cstr(v)
		case unix.NFTA_RULE_HANDLE:
			r.Handle = be64(v)
		case unix.NFTA_RULE_USERDATA:
			for len(v) >= 2 && len(v) >= 2+int(v[1]) {
				value := v[2 : 2+int(v[1])]
				switch {
				case v[0] == userComment:
					r.Comment = cstr(value)
				case v[0] == userDigest && len(value) == len(r.Digest):
					r.Digest = Digest(value)
				}
				v = v[2+int(v[1]):]
			}
		}
	})
	return table, chain, r
}

func (c *Conn) sets(ctx context.Context, t Table) (found []FoundSet, err error) {
	ask := request(unix.NFT_MSG_GETSET, t.Family, func(e *encoder) { e.str(unix.NFTA_SET_TABLE, t.Name) })
	err = c.dump(ctx, "list sets of "+t.String(), ask, dumpHandler{
		restart: func() { found = nil },
		each:    func(_ Family, b []byte) { found = append(found, parseSet(b)) },
	})
	return found, err
}

func parseSet(b []byte) (s FoundSet) {
	attrs(b, func(typ uint16, v []byte) {
		switch typ {
		case unix.NFTA_SET_NAME:
			s.Name = cstr(v)
		case unix.NFTA_SET_KEY_TYPE:
			s.KeyMagic = be32(v)
		case unix.NFTA_SET_KEY_LEN:
			s.KeyLen = be32(v)
		case unix.NFTA_SET_DATA_TYPE:
			s.DataMagic = be32(v)
		case unix.NFTA_SET_DATA_LEN:
			s.DataLen = be32(v)
		case unix.NFTA_SET_FLAGS:
			f := be32(v)
			s.Map = f&unix.NFT_SET_MAP != 0
			s.Interval = f&unix.NFT_SET_INTERVAL != 0
			s.Timeout = f&unix.NFT_SET_TIMEOUT != 0
			s.Dynamic = f&unix.NFT_SET_EVAL != 0
			s.Other = f&(unix.NFT_SET_ANONYMOUS|unix.NFT_SET_CONSTANT) != 0
		}
	})
	return s
}

// Generation is the kernel's count of transactions, of anybody, in the
// namespace, and who made the last one.
type Generation struct {
	ID      uint32
	PID     uint32
	Program string
}

// Generation reads the present generation.
func (c *Conn) Generation(ctx context.Context) (g Generation, err error) {
	ask := func(e *encoder, seq uint32) {
		at := e.begin(subsysNftables|unix.NFT_MSG_GETGEN, unix.NLM_F_REQUEST|unix.NLM_F_ACK, 0, seq)
		e.end(at)
	}
	err = c.dump(ctx, "read generation of nf_tables", ask, dumpHandler{
		restart: func() { g = Generation{} },
		each: func(_ Family, b []byte) {
			attrs(b, func(typ uint16, v []byte) {
				switch typ {
				case unix.NFTA_GEN_ID:
					g.ID = be32(v)
				case unix.NFTA_GEN_PROC_PID:
					g.PID = be32(v)
				case unix.NFTA_GEN_PROC_NAME:
					g.Program = cstr(v)
				}
			})
		},
	})
	return g, err
}

// NumberAt reads a 32-bit number in host order from the bytes of a key or of data.
func NumberAt(b []byte, offset int) uint32 { return binary.NativeEndian.Uint32(b[offset:]) }
