package nft

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// chunk is the number of elements in one message: an attribute is at most 64
// KiB, and the largest element (IPv6, concatenated) takes less than 128 bytes.
const chunk = 500

// loadLimit is how many elements are added in one transaction where it may be several (see
// Tx.create). The kernel's hash tables grow in the background, on the processor that adds to them:
// of 250,000 elements added at once each takes 18 µs, of 5,000 each 3 µs (Linux 6.18).
const loadLimit = 5_000

// Kinds of user data on a rule: nft's own comment, and our digest, which nft ignores.
const (
	userComment = 0
	userDigest  = 0x4e
)

// Numbers that golang.org/x/sys/unix lacks.
const (
	tableDormant   = 1
	setConcat      = 0x80
	descConcat     = 2
	descFieldLen   = 1
	elemKeyEnd     = 10
	subsysNftables = unix.NFNL_SUBSYS_NFTABLES << 8
)

// Tx collects changes that are made together or not at all. The zero value is
// ready for use. It may be applied again after an error.
type Tx struct {
	e   encoder
	ops []op
	err error
	// unfinished: see Unfinished.
	unfinished bool
	// cuts are the numbers of operations after which one transaction may end and
	// another begin, for no packet meets what was made until then.
	cuts []int
}

// op says what a message does, for errors; its sequence number is its index plus one.
type op struct {
	// at is where the message begins.
	at         int
	verb, kind string
	table      Table
	name       string
	count      int
	// set is that of the elements; nil for other changes.
	set *Set
}

func (o op) String() string {
	switch {
	case o.count > 0:
		return fmt.Sprintf("%s %d elements of %s %s", o.verb, o.count, o.table, o.name)
	case o.name == "":
		return fmt.Sprintf("%s %s %s", o.verb, o.kind, o.table)
	}
	return fmt.Sprintf("%s %s %s %s", o.verb, o.kind, o.table, o.name)
}

// String lists what the transaction does, one change a line.
func (tx *Tx) String() string {
	lines := make([]string, len(tx.ops))
	for i, o := range tx.ops {
		lines[i] = o.String()
	}
	return strings.Join(lines, "\n")
}

// Empty tells whether there is nothing to do.
func (tx *Tx) Empty() bool { return len(tx.ops) == 0 && tx.err == nil }

// Len is the number of messages.
func (tx *Tx) Len() int { return len(tx.ops) }

func (tx *Tx) message(typ uint16, flags uint16, o op) (done func()) {
	o.at = len(tx.e.b)
	tx.ops = append(tx.ops, o)
	at := tx.e.begin(subsysNftables|typ, unix.NLM_F_REQUEST|flags, o.table.Family, uint32(len(tx.ops)))
	return func() { tx.e.end(at) }
}

// AddTable makes a table, or wakes it when it exists and is dormant.
func (tx *Tx) AddTable(t Table) {
	done := tx.message(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, op{verb: "add", kind: "table", table: t})
	tx.e.str(unix.NFTA_TABLE_NAME, t.Name)
	tx.e.u32(unix.NFTA_TABLE_FLAGS, 0)
	done()
}

// DeleteTable removes a table with all it holds; no error when there is none.
func (tx *Tx) DeleteTable(t Table) {
	tx.AddTable(t) // so that deleting cannot fail: NFT_MSG_DESTROYTABLE needs kernel 6.3
	done := tx.message(unix.NFT_MSG_DELTABLE, 0, op{verb: "delete", kind: "table", table: t})
	tx.e.str(unix.NFTA_TABLE_NAME, t.Name)
	done()
}

// AddChain makes a chain without its rules; no error when it exists.
func (tx *Tx) AddChain(t Table, c Chain) {
	done := tx.message(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, op{verb: "add", kind: "chain", table: t, name: c.Name})
	tx.e.str(unix.NFTA_CHAIN_TABLE, t.Name)
	tx.e.str(unix.NFTA_CHAIN_NAME, c.Name)
	if b := c.Base; b != nil {
		at := tx.e.nest(unix.NFTA_CHAIN_HOOK)
		tx.e.u32(unix.NFTA_HOOK_HOOKNUM, uint32(b.Hook))
		tx.e.u32(unix.NFTA_HOOK_PRIORITY, uint32(int32(b.Priority)))
		tx.e.endNest(at)
		policy := uint32(1)
		if b.Drop {
			policy = 0
		}
		tx.e.u32(unix.NFTA_CHAIN_POLICY, policy)
		tx.e.str(unix.NFTA_CHAIN_TYPE, string(b.Type))
	}
	done()
}

// DeleteChain removes a chain that holds no rules and that nothing jumps to.
func (tx *Tx) DeleteChain(t Table, name string) {
	done := tx.message(unix.NFT_MSG_DELCHAIN, 0, op{verb: "delete", kind: "chain", table: t, name: name})
	tx.e.str(unix.NFTA_CHAIN_TABLE, t.Name)
	tx.e.str(unix.NFTA_CHAIN_NAME, name)
	done()
}

// FlushChain removes all rules of a chain.
func (tx *Tx) FlushChain(t Table, name string) {
	done := tx.message(unix.NFT_MSG_DELRULE, 0, op{verb: "flush", kind: "chain", table: t, name: name})
	tx.e.str(unix.NFTA_RULE_TABLE, t.Name)
	tx.e.str(unix.NFTA_RULE_CHAIN, name)
	done()
}

// AddRule appends a rule to a chain.
func (tx *Tx) AddRule(t Table, chain string, r Rule) {
	encoded, err := encodeRule(t.Family, r)
	if err != nil {
		tx.err = fmt.Errorf("encode rule %q of chain %s %s: %w", r, t, chain, err)
		return
	}
	flags := uint16(unix.NLM_F_CREATE | unix.NLM_F_APPEND)
	done := tx.message(unix.NFT_MSG_NEWRULE, flags, op{verb: "add", kind: "rule to chain", table: t, name: chain})
	tx.e.str(unix.NFTA_RULE_TABLE, t.Name)
	tx.e.str(unix.NFTA_RULE_CHAIN, chain)
	tx.e.bytes(unix.NFTA_RULE_EXPRESSIONS|unix.NLA_F_NESTED, encoded)
	tx.e.bytes(unix.NFTA_RULE_USERDATA, userData(r, encoded))
	done()
}

// DeleteRule removes the rule with that handle.
func (tx *Tx) DeleteRule(t Table, chain string, handle uint64) {
	done := tx.message(unix.NFT_MSG_DELRULE, 0, op{verb: "delete", kind: "rule of chain", table: t, name: chain})
	tx.e.str(unix.NFTA_RULE_TABLE, t.Name)
	tx.e.str(unix.NFTA_RULE_CHAIN, chain)
	tx.e.u64(unix.NFTA_RULE_HANDLE, handle)
	done()
}

func encodeRule(f Family, r Rule) ([]byte, error) {
	var e encoder
	for _, s := range r.Do {
		for _, x := range s.encode(f) {
			if own, ok := x.(ctOriginalDst); ok {
				at := e.nest(unix.NFTA_LIST_ELEM)
				own.append(&e)
				e.endNest(at)
				continue
			}
			b, err := expr.Marshal(byte(f), x.(expr.Any))
			if err != nil {
				return nil, err
			}
			e.bytes(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, b)
		}
	}
	return e.b, nil
}

// userData is the comment for people and the digest for us.
func userData(r Rule, encoded []byte) []byte {
	var b []byte
	if r.Comment != "" {
		c := r.Comment
		if len(c) > 120 { // all user data is at most 256 bytes, nft's comments 128
			c = c[:120]
		}
		b = append(b, userComment, byte(len(c)+1))
		b = append(append(b, c...), 0)
	}
	d := digest(r.Comment, encoded)
	b = append(b, userDigest, byte(len(d)))
	return append(b, d[:]...)
}

// Digest names the content of a rule.
type Digest [8]byte

func digest(comment string, encoded []byte) Digest {
	h := sha256.New()
	h.Write([]byte(comment))
	h.Write([]byte{0})
	h.Write(encoded)
	return Digest(h.Sum(nil)[:8])
}

// DigestOf gives the digest that a rule will carry in a table of that family.
func DigestOf(f Family, r Rule) (Digest, error) {
	encoded, err := encodeRule(f, r)
	if err != nil {
		return Digest{}, fmt.Errorf("encode rule %q: %w", r, err)
	}
	return digest(r.Comment, encoded), nil
}

// AddSet makes a set or map without its elements; no error when the same exists.
func (tx *Tx) AddSet(t Table, s *Set) {
	done := tx.message(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, op{verb: "add", kind: "set", table: t, name: s.Name})
	tx.e.str(unix.NFTA_SET_TABLE, t.Name)
	tx.e.str(unix.NFTA_SET_NAME, s.Name)
	tx.e.u32(unix.NFTA_SET_FLAGS, s.flags())
	magic, length := s.Key.magicAndLen()
	tx.e.u32(unix.NFTA_SET_KEY_TYPE, magic)
	tx.e.u32(unix.NFTA_SET_KEY_LEN, length)
	if s.IsMap() {
		magic, length := s.Data.magicAndLen()
		tx.e.u32(unix.NFTA_SET_DATA_TYPE, magic)
		tx.e.u32(unix.NFTA_SET_DATA_LEN, length)
	}
	tx.e.u32(unix.NFTA_SET_ID, uint32(len(tx.ops)))
	tx.setDesc(s)
	tx.e.bytes(unix.NFTA_SET_USERDATA, s.byteOrders())
	done()
}

// byteOrders tells the nft program how to print keys and data: kinds 0 and 1
// of a set's user data, value 1 for host order and 2 for network order.
func (s *Set) byteOrders() []byte {
	order := func(kind byte, ts Types) []byte {
		n := uint32(2)
		if len(ts) == 1 && ts[0] == Mark {
			n = 1
		}
		return binary.NativeEndian.AppendUint32([]byte{kind, 4}, n)
	}
	b := order(0, s.Key)
	if s.IsMap() {
		b = append(b, order(1, s.Data)...)
	}
	return b
}

func (tx *Tx) setDesc(s *Set) {
	concat := s.flags()&setConcat != 0
	if s.Size == 0 && !concat {
		return
	}
	at := tx.e.nest(unix.NFTA_SET_DESC)
	if s.Size > 0 {
		tx.e.u32(unix.NFTA_SET_DESC_SIZE, s.Size)
	}
	if concat {
		fields := tx.e.nest(descConcat)
		for _, t := range s.Key {
			field := tx.e.nest(unix.NFTA_LIST_ELEM)
			tx.e.u32(descFieldLen, t.info().bytes)
			tx.e.endNest(field)
		}
		tx.e.endNest(fields)
	}
	tx.e.endNest(at)
}

func (s *Set) flags() uint32 {
	var f uint32
	if s.IsMap() {
		f |= unix.NFT_SET_MAP
	}
	if s.Interval {
		f |= unix.NFT_SET_INTERVAL
		if len(s.Key) > 1 {
			f |= setConcat
		}
	}
	if s.Timeout {
		f |= unix.NFT_SET_TIMEOUT
	}
	if s.Dynamic {
		f |= unix.NFT_SET_EVAL
	}
	return f
}

// DeleteSet removes a set that no rule uses.
func (tx *Tx) DeleteSet(t Table, name string) {
	done := tx.message(unix.NFT_MSG_DELSET, 0, op{verb: "delete", kind: "set", table: t, name: name})
	tx.e.str(unix.NFTA_SET_TABLE, t.Name)
	tx.e.str(unix.NFTA_SET_NAME, name)
	done()
}

// FlushSet removes all elements of a set.
func (tx *Tx) FlushSet(t Table, name string) {
	done := tx.message(unix.NFT_MSG_DELSETELEM, 0, op{verb: "flush", kind: "set", table: t, name: name})
	tx.e.str(unix.NFTA_SET_ELEM_LIST_TABLE, t.Name)
	tx.e.str(unix.NFTA_SET_ELEM_LIST_SET, name)
	done()
}

// AddElements adds elements. A map's key that is there with other data must be
// deleted first, in the same Tx.
func (tx *Tx) AddElements(t Table, s *Set, es []Element) {
	tx.elements(op{verb: "add", table: t, name: s.Name, set: s}, es)
}

// DeleteElements removes elements; each must be there.
func (tx *Tx) DeleteElements(t Table, s *Set, es []Element) {
	tx.elements(op{verb: "delete", table: t, name: s.Name, set: s}, es)
}

func (tx *Tx) elements(o op, es []Element) {
	s := o.set
	typ := uint16(unix.NFT_MSG_NEWSETELEM)
	if o.verb == "delete" {
		typ = unix.NFT_MSG_DELSETELEM
	}
	for len(es) > 0 {
		n := min(len(es), chunk)
		o.count = n
		done := tx.message(typ, unix.NLM_F_CREATE, o)
		tx.e.str(unix.NFTA_SET_ELEM_LIST_TABLE, o.table.Name)
		tx.e.str(unix.NFTA_SET_ELEM_LIST_SET, s.Name)
		list := tx.e.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
		for i := range es[:n] {
			tx.element(s, &es[i], typ == unix.NFT_MSG_NEWSETELEM)
		}
		tx.e.endNest(list)
		done()
		es = es[n:]
	}
}

func (tx *Tx) element(s *Set, el *Element, withData bool) {
	concat := len(s.Key) > 1
	at := tx.e.nest(unix.NFTA_LIST_ELEM)
	tx.e.value(unix.NFTA_SET_ELEM_KEY, el.Key)
	if s.Interval && concat {
		end := el.KeyEnd
		if end == nil {
			end = el.Key
		}
		tx.e.value(elemKeyEnd, end)
	}
	if withData {
		if el.Timeout > 0 {
			tx.e.u64(unix.NFTA_SET_ELEM_TIMEOUT, uint64(el.Timeout.Milliseconds()))
		}
		switch {
		case el.Do.Kind != NoAction:
			tx.verdictData(el.Do)
		case len(el.Data) > 0:
			tx.e.value(unix.NFTA_SET_ELEM_DATA, el.Data)
		}
	}
	tx.e.endNest(at)
	if s.Interval && !concat {
		tx.intervalEnd(el)
	}
}

// intervalEnd adds the element that closes a range of a set with one field:
// the first key after it. A range up to the last key has no end.
func (tx *Tx) intervalEnd(el *Element) {
	last := el.KeyEnd
	if last == nil {
		last = el.Key
	}
	next, ok := after(last)
	if !ok {
		return
	}
	at := tx.e.nest(unix.NFTA_LIST_ELEM)
	tx.e.u32(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)
	tx.e.value(unix.NFTA_SET_ELEM_KEY, next)
	tx.e.endNest(at)
}

func after(key []byte) ([]byte, bool) {
	next := append([]byte(nil), key...)
	for i := len(next) - 1; i >= 0; i-- {
		next[i]++
		if next[i] != 0 {
			return next, true
		}
	}
	return nil, false
}

func (tx *Tx) verdictData(a Action) {
	data := tx.e.nest(unix.NFTA_SET_ELEM_DATA)
	v := tx.e.nest(unix.NFTA_DATA_VERDICT)
	tx.e.u32(unix.NFTA_VERDICT_CODE, uint32(a.code()))
	if a.Chain != "" {
		tx.e.str(unix.NFTA_VERDICT_CHAIN, a.Chain)
	}
	tx.e.endNest(v)
	tx.e.endNest(data)
}

// Transactions is how many the kernel is asked for: one, but for a table with many elements that no
// packet meets yet.
func (tx *Tx) Transactions() int {
	if len(tx.ops) == 0 {
		return 0
	}
	return len(tx.cuts) + 1
}

// part is the messages of one transaction; last is the number of its last message.
type part struct {
	messages []byte
	last     int
}

// parts gives the transactions in order. The last message of each asks for an
// acknowledgement, so that there is always exactly one last answer.
func (tx *Tx) parts() []part {
	var out []part
	from := 0
	for _, last := range append(slices.Clone(tx.cuts), len(tx.ops)) {
		end := len(tx.e.b)
		if last < len(tx.ops) {
			end = tx.ops[last].at
		}
		flags := tx.e.b[tx.ops[last-1].at+6:]
		binary.NativeEndian.PutUint16(flags, binary.NativeEndian.Uint16(flags)|unix.NLM_F_ACK)
		out = append(out, part{tx.e.b[from:end], last})
		from = end
	}
	return out
}

// frame is the message that begins or ends a batch.
func frame(typ uint16, seq int) []byte {
	var e encoder
	at := e.begin(typ, unix.NLM_F_REQUEST, 0, uint32(seq))
	binary.BigEndian.PutUint16(e.b[at+18:], unix.NFNL_SUBSYS_NFTABLES)
	e.end(at)
	return e.b
}
