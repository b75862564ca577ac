package nft

import (
	"bytes"
	"context"
	"slices"
)

// Ensure makes the table be exactly what is wanted, in one transaction that
// changes only what differs, and tells whether anything did. Elements of
// dynamic sets are left alone.
func (c *Conn) Ensure(ctx context.Context, want *Ruleset) (changed bool, err error) {
	found, err := c.Read(ctx, want.Table)
	if err != nil {
		return false, err
	}
	tx, err := Diff(found, want)
	if err != nil || tx.Empty() {
		return false, err
	}
	return true, c.Apply(ctx, tx)
}

// Diff gives the transaction that turns what was found (nil for no table) into
// what is wanted. It does not touch the kernel. Chains whose rules differ get
// all their rules anew; a set or base chain of another make cannot be changed,
// so the whole table is replaced, still within the one transaction.
func Diff(found *Found, want *Ruleset) (*Tx, error) {
	tx := &Tx{}
	return tx, tx.Diff(found, want)
}

// Diff adds to the transaction what the function Diff says, so that one
// transaction can change several tables.
func (tx *Tx) Diff(found *Found, want *Ruleset) error {
	switch {
	case found == nil:
		tx.create(want, true)
		return tx.err
	case mustReplace(found, want):
		tx.DeleteTable(want.Table)
		tx.create(want, !found.met())
		return tx.err
	}
	return tx.change(found, want)
}

// met tells whether packets meet the table.
func (f *Found) met() bool {
	return slices.ContainsFunc(f.Chains, func(c FoundChain) bool { return c.Base != nil })
}

func mustReplace(found *Found, want *Ruleset) bool {
	for i := range want.Sets {
		if f := found.Set(want.Sets[i].Name); f != nil && !f.Is(&want.Sets[i]) {
			return true
		}
	}
	for _, c := range want.Chains {
		f := found.Chain(c.Name)
		if f == nil {
			continue
		}
		if (f.Base == nil) != (c.Base == nil) || f.Base != nil && *f.Base != *c.Base {
			return true
		}
	}
	// A table that was left half made is made anew: no packet meets it, so it may take several transactions.
	return !found.met() && slices.ContainsFunc(want.Chains, func(c Chain) bool { return c.Base != nil })
}

// create makes a table. Base chains come last but for rules: until then no packet meets any of it,
// and if cut says so a transaction may end there.
func (tx *Tx) create(want *Ruleset, cut bool) {
	tx.AddTable(want.Table)
	for i := range want.Sets {
		tx.AddSet(want.Table, &want.Sets[i])
	}
	chains := func(base bool) {
		for _, c := range want.Chains {
			if (c.Base != nil) == base {
				tx.AddChain(want.Table, c)
			}
		}
	}
	chains(false) // elements name chains
	tx.e.b = slices.Grow(tx.e.b, roomFor(want))
	loaded := 0
	for i := range want.Sets {
		s := &want.Sets[i]
		for es := range slices.Chunk(s.Elements, loadLimit) {
			if loaded += len(es); cut && loaded > loadLimit {
				tx.cuts = append(tx.cuts, len(tx.ops))
				loaded = len(es)
			}
			tx.AddElements(want.Table, s, es)
		}
	}
	chains(true)
	for _, c := range want.Chains {
		for _, r := range c.Rules {
			tx.AddRule(want.Table, c.Name, r)
		}
	}
}

// roomFor is about how many bytes the elements take in messages, so that memory is taken once for all.
func roomFor(want *Ruleset) (n int) {
	const headers = 24 // of an element, its key and its data: attributes of 4 bytes each, some nested
	for i := range want.Sets {
		if es := want.Sets[i].Elements; len(es) > chunk {
			n += len(es) * (headers + len(es[0].Key) + len(es[0].Data))
		}
	}
	return n
}

// change adds the new, then rewrites what differs, then removes the surplus:
// the order in which nothing is missing that something else names.
func (tx *Tx) change(found *Found, want *Ruleset) error {
	t := want.Table
	if found.Dormant {
		tx.AddTable(t)
	}
	for i := range want.Sets {
		if found.Set(want.Sets[i].Name) == nil {
			tx.AddSet(t, &want.Sets[i])
		}
	}
	for _, c := range want.Chains {
		if found.Chain(c.Name) == nil {
			tx.AddChain(t, c)
		}
	}
	surplus := surplusOf(found, want)
	tx.unfinished = tx.unfinished || len(surplus.emptied) > 0
	for _, name := range slices.Concat(surplus.chains, surplus.emptied) {
		tx.FlushChain(t, name)
	}
	for i := range want.Sets {
		s := &want.Sets[i]
		if f := found.Set(s.Name); f != nil && !s.Dynamic {
			tx.changeElements(t, s, f.Elements)
		} else if f == nil {
			tx.AddElements(t, s, s.Elements)
		}
	}
	for _, c := range want.Chains {
		if err := tx.changeRules(t, found.Chain(c.Name), c); err != nil {
			return err
		}
	}
	for _, name := range surplus.sets {
		tx.DeleteSet(t, name)
	}
	for _, name := range surplus.chains {
		tx.DeleteChain(t, name)
	}
	return tx.err
}

// Unfinished tells whether a Diff left chains that the next one removes.
func (tx *Tx) Unfinished() bool { return tx.unfinished }

// surplus names what has to go. emptied chains are flushed only: before Linux
// 6.2 the kernel counts a verdict map's element as a use of its chain until
// some time after the element is gone. The next Diff deletes them.
type surplus struct{ chains, emptied, sets []string }

func surplusOf(found *Found, want *Ruleset) (s surplus) {
	used := map[string]bool{}
	for _, f := range found.Sets {
		for i := range f.Elements {
			used[f.Elements[i].Do.Chain] = true
		}
	}
	chains, sets := map[string]bool{}, map[string]bool{}
	for _, c := range want.Chains {
		chains[c.Name] = true
	}
	for i := range want.Sets {
		sets[want.Sets[i].Name] = true
	}
	for _, c := range found.Chains {
		switch {
		case chains[c.Name]:
		case used[c.Name]:
			s.emptied = append(s.emptied, c.Name)
		default:
			s.chains = append(s.chains, c.Name)
		}
	}
	for _, f := range found.Sets {
		if !sets[f.Name] && !f.Other { // an anonymous set goes with its rule
			s.sets = append(s.sets, f.Name)
		}
	}
	return s
}

func (tx *Tx) changeRules(t Table, found *FoundChain, want Chain) error {
	if found != nil {
		same := len(found.Rules) == len(want.Rules)
		for i := 0; same && i < len(want.Rules); i++ {
			d, err := DigestOf(t.Family, want.Rules[i])
			if err != nil {
				return err
			}
			same = d == found.Rules[i].Digest
		}
		if same {
			return nil
		}
		tx.FlushChain(t, want.Name)
	}
	for _, r := range want.Rules {
		tx.AddRule(t, want.Name, r)
	}
	return nil
}

func (tx *Tx) changeElements(t Table, s *Set, found []Element) {
	have := make(map[string]int, len(found))
	for i := range found {
		have[found[i].id()] = i
	}
	wanted := make([]bool, len(found))
	var add, remove []Element
	for i := range s.Elements {
		el := &s.Elements[i]
		at, there := have[string(el.Key)] // costs no memory, as id would
		if el.KeyEnd != nil {
			at, there = have[el.id()]
		}
		if there {
			wanted[at] = true
			if found[at].same(el) {
				continue
			}
			remove = append(remove, found[at])
		}
		add = append(add, *el)
	}
	for i := range found {
		if !wanted[i] {
			remove = append(remove, found[i])
		}
	}
	tx.DeleteElements(t, s, remove)
	tx.AddElements(t, s, add)
}

func (el *Element) id() string { return string(el.Key) + string(el.KeyEnd) }

// same compares what the element says; the time left of it is not part of that.
func (el *Element) same(o *Element) bool { return bytes.Equal(el.Data, o.Data) && el.Do == o.Do }

// Expire removes elements of a dynamic set, some of which may have left by
// themselves meanwhile.
func (c *Conn) Expire(ctx context.Context, t Table, s *Set, es []Element) error {
	tx := &Tx{}
	tx.DeleteElements(t, s, es)
	err := c.Apply(ctx, tx)
	if err == nil || !IsNotExist(err) || len(es) == 1 {
		return ignoreNotExist(err)
	}
	for i := range es {
		one := &Tx{}
		one.DeleteElements(t, s, es[i:i+1])
		if err := ignoreNotExist(c.Apply(ctx, one)); err != nil {
			return err
		}
	}
	return nil
}

func ignoreNotExist(err error) error {
	if IsNotExist(err) {
		return nil
	}
	return err
}

// Delete removes the table with all it holds; no error when there is none.
func (c *Conn) Delete(ctx context.Context, t Table) error {
	tx := &Tx{}
	tx.DeleteTable(t)
	return c.Apply(ctx, tx)
}
