package nft_test

import (
	"context"
	"encoding/binary"
	"testing"

	"nodelet/internal/nft"
)

// large is a table that takes several transactions to make.
func large() *nft.Ruleset {
	s := nft.Set{Name: "numbers", Key: nft.Types{nft.Mark}}
	for i := range 12_000 {
		s.Elements = append(s.Elements, nft.Element{Key: binary.NativeEndian.AppendUint32(nil, uint32(i))})
	}
	verdicts := nft.Set{Name: "verdicts", Key: nft.Types{nft.Mark}, Data: nft.Types{nft.Verdict}}
	verdicts.Elements = []nft.Element{{Key: nft.Bytes(uint32(1)), Do: nft.Action{Kind: nft.DoJump, Chain: "side"}}}
	return &nft.Ruleset{
		Table: table, Sets: []nft.Set{s, verdicts},
		Chains: []nft.Chain{
			{Name: "input", Base: &nft.Base{Type: nft.Filter, Hook: nft.Input}, Rules: []nft.Rule{{Do: []nft.Stmt{nft.Load(0, nft.PacketMark), nft.Member("numbers", 0), nft.Accept()}}}},
			{Name: "side", Rules: []nft.Rule{{Do: []nft.Stmt{nft.Counter()}}}},
		},
	}
}

// ending is a context that ends before the exchange with the kernel of that number.
type ending struct {
	context.Context
	left int
}

func (e *ending) Err() error {
	if e.left--; e.left < 0 {
		return context.Canceled
	}
	return nil
}

// TestLargeTable: a table with many elements is made in several transactions. Whenever that ends, either
// no packet meets the table or all of it is there, and the next one makes it whole.
func TestLargeTable(t *testing.T) {
	c, ctx, want := inNamespace(t), context.Background(), large()
	made, err := nft.Diff(nil, want)
	if err != nil || made.Transactions() < 3 {
		t.Fatalf("%d transactions, %v", made.Transactions(), err)
	}
	for n := 0; ; n++ {
		err := c.Apply(&ending{ctx, n}, made)
		found, readErr := c.Read(ctx, table)
		if readErr != nil {
			t.Fatal(readErr)
		}
		if err == nil {
			if n != made.Transactions() {
				t.Errorf("%d exchanges for %d transactions", n, made.Transactions())
			}
			if rest, err := nft.Diff(found, want); err != nil || !rest.Empty() {
				t.Errorf("made, and differs: %v %v", rest, err)
			}
			break
		}
		if found != nil && (found.Chain("input") != nil || len(found.Set("numbers").Elements) == 0) {
			t.Fatalf("ended before exchange %d: %d chains", n, len(found.Chains))
		}
		if _, err := c.Ensure(ctx, want); err != nil {
			t.Fatalf("after one that ended before exchange %d: %v", n, err)
		}
		if changed, err := c.Ensure(ctx, want); err != nil || changed {
			t.Errorf("after one that ended before exchange %d, made whole and once more: changed=%t %v", n, changed, err)
		}
		if err := c.Delete(ctx, table); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLargeTableInUse: what packets meet is replaced in one transaction, however large it is.
func TestLargeTableInUse(t *testing.T) {
	c, ctx, want := inNamespace(t), context.Background(), large()
	other := *want
	other.Sets = append([]nft.Set{}, want.Sets...)
	other.Sets[0] = nft.Set{Name: "numbers", Key: nft.Types{nft.IPv4Addr}} // another type: it cannot be changed
	other.Chains = []nft.Chain{want.Chains[1], {Name: "input", Base: want.Chains[0].Base}}
	if _, err := c.Ensure(ctx, &other); err != nil {
		t.Fatal(err)
	}
	found, err := c.Read(ctx, table)
	if err != nil {
		t.Fatal(err)
	}
	tx, err := nft.Diff(found, want)
	if err != nil || tx.Transactions() != 1 {
		t.Errorf("%d transactions, %v", tx.Transactions(), err)
	}
	if err := c.Apply(ctx, tx); err != nil {
		t.Fatal(err)
	}
}

// TestListingWhileTheTableGrows: the kernel's hash table grows in the background after many elements were
// added, and then lists some twice and others not at all. Seen on a quiet machine once in some hundred times.
func TestListingWhileTheTableGrows(t *testing.T) {
	c, ctx, want := inNamespace(t), context.Background(), large()
	for round := range 6 {
		if _, err := c.Ensure(ctx, want); err != nil {
			t.Fatal(err)
		}
		found, err := c.Elements(ctx, table, "numbers")
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for _, e := range found {
			seen[string(e.Key)] = true
		}
		if n := len(want.Sets[0].Elements); len(found) != n || len(seen) != n {
			t.Errorf("round %d: %d elements were listed, %d different, want %d", round, len(found), len(seen), n)
		}
		if err := c.Delete(ctx, table); err != nil {
			t.Fatal(err)
		}
	}
}
