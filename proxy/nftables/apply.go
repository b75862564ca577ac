package nftables

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"nodelet/internal/nft"
	"nodelet/proxy/lb"
)

// Config is what the back end has to know besides States.
type Config struct {
	// NetNS is a file descriptor of the network namespace; 0 is the own one.
	NetNS int
	// IPv6 makes the table of that family too.
	IPv6 bool
	// Handover leaves to IPVS what HandedOver says. The table is another then:
	// both modes can be cleaned up beside each other.
	Handover bool
}

// Backend keeps the tables. It is used by one goroutine at a time.
type Backend struct {
	conn     *nft.Conn
	table    string
	families []*family
	// have is what the kernel holds, by family; nil when that is not known.
	have []*content
	// applied is the State that have stands for.
	applied *lb.State
	// generation is the kernel's count of changes as it is when nobody else has made one since
	// the last look at everything; 0 when that is not known.
	generation uint32
	// tidying: the next look at the kernel is only to remove idle plans.
	tidying bool
}

// New opens the back end. It changes nothing.
func New(cfg Config) (*Backend, error) {
	conn, err := nft.Open(nft.Options{NetNS: cfg.NetNS})
	if err != nil {
		return nil, err
	}
	b := &Backend{conn: conn, table: tableName, families: []*family{familyOf(false)}}
	if cfg.IPv6 {
		b.families = append(b.families, familyOf(true))
	}
	if cfg.Handover {
		b.table = handoverTable
		for _, f := range b.families {
			f.handover, f.table.Name = true, b.table
		}
	}
	return b, nil
}

// Close ends the connection; the rules stay.
func (b *Backend) Close() error { return b.conn.Close() }

// Port is the netlink port by which the back end's changes are known.
func (b *Backend) Port() uint32 { return b.conn.Port() }

// Apply makes the kernel say what want says. After an error nothing is known,
// and the next Apply looks at everything.
func (b *Backend) Apply(ctx context.Context, want *lb.State) (lb.Result, error) {
	if b.have == nil || b.applied == nil || b.applied.Config() != want.Config() {
		return b.applyAll(ctx, want)
	}
	next := make([]*edits, len(b.families))
	tx := &nft.Tx{}
	for i, c := range b.have {
		next[i] = newEdits()
		c.advance(next[i], b.applied, want)
		c.write(tx, next[i])
	}
	if err := b.commit(ctx, tx, want); err != nil {
		return lb.Result{}, err
	}
	for i, c := range b.have {
		if err := b.forgetClients(ctx, c, next[i].clients); err != nil {
			return lb.Result{}, err
		}
	}
	return lb.Result{Messages: tx.Len()}, nil
}

// commit writes tx. What the kernel holds is unknown while it does, and after an error.
func (b *Backend) commit(ctx context.Context, tx *nft.Tx, want *lb.State) error {
	have, generation := b.have, b.generation
	b.Forget()
	if err := b.conn.Apply(ctx, tx); err != nil {
		return err
	}
	if generation != 0 {
		b.generation = generation + uint32(tx.Transactions())
	}
	b.have, b.applied = have, want
	return nil
}

// maxRounds bounds a look at the kernel while somebody else writes to our tables.
const maxRounds = 3

// applyAll looks at the kernel and writes what differs. Chains that verdict
// maps led to go in a second round: see nft.Tx.Unfinished.
func (b *Backend) applyAll(ctx context.Context, want *lb.State) (lb.Result, error) {
	b.Forget()
	result := lb.Result{Full: true, Tidy: b.tidying}
	b.tidying = false
	var have []*content
	for round, unfinished := 0, true; unfinished && round < maxRounds; round++ {
		var err error
		if have, unfinished, err = b.applyWhole(ctx, want, &result); err != nil {
			return result, err
		}
	}
	b.have, b.applied = have, want
	for _, c := range have {
		if err := b.forgetClients(ctx, c, slices.Collect(maps.Keys(c.keptTo))); err != nil {
			return result, err
		}
	}
	return result, nil
}

// applyWhole is one round of applyAll.
func (b *Backend) applyWhole(ctx context.Context, want *lb.State, result *lb.Result) (have []*content, unfinished bool, err error) {
	before, err := b.conn.Generation(ctx)
	if err != nil {
		return nil, false, err
	}
	tx := &nft.Tx{}
	for _, f := range b.families {
		found, err := b.conn.Read(ctx, f.table)
		if err != nil {
			return nil, false, fmt.Errorf("observe table %s: %w", f.table, err)
		}
		c := contentOf(f, want.Config(), found)
		have = append(have, c)
		result.Gone = append(result.Gone, c.become(want)...)
		if err := tx.Diff(found, c.ruleset()); err != nil {
			return nil, false, err
		}
	}
	if err := b.conn.Apply(ctx, tx); err != nil {
		return nil, false, err
	}
	after, err := b.conn.Generation(ctx)
	if err != nil {
		return nil, false, err
	}
	result.Messages += tx.Len()
	own := uint32(tx.Transactions())
	// Only when nobody else changed anything between the two looks is it certain how things are.
	b.generation = 0
	if after.ID == before.ID+own {
		b.generation = after.ID
	}
	return have, tx.Unfinished(), nil
}

// Forget makes the next Apply look at the kernel.
func (b *Backend) Forget() { b.have, b.generation = nil, 0 }

// idlePlans is how many plans that nobody uses any more may stay: each costs
// new connections to Services one lookup, about 0.1 µs.
const idlePlans = 8

// maxIdleKeepers is how many chains of session affinity that nobody uses any
// more may stay: some 500 bytes each.
const maxIdleKeepers = 256

// Untouched tells whether nobody has changed any rules in the namespace since
// the last Apply, and there is nothing to tidy up. False means only that it is
// not certain.
func (b *Backend) Untouched(ctx context.Context) bool {
	if b.generation == 0 || b.have == nil {
		return false
	}
	now, err := b.conn.Generation(ctx)
	same := err == nil && now.ID == b.generation
	for _, c := range b.have {
		if c.idle() > idlePlans || c.idleKeepers() > maxIdleKeepers {
			b.tidying = same
			return false
		}
	}
	return same
}

// Cleanup removes the tables.
func (b *Backend) Cleanup(ctx context.Context) error {
	b.Forget()
	tx := &nft.Tx{}
	for _, f := range b.families {
		has, err := b.conn.HasTable(ctx, f.table)
		if err != nil {
			return err
		}
		if has {
			tx.DeleteTable(f.table)
		}
	}
	return b.conn.Apply(ctx, tx)
}

// Residue names what is left of ours in the kernel.
func (b *Backend) Residue(ctx context.Context) ([]string, error) {
	tables, err := b.conn.Tables(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, t := range tables {
		if t.Name == b.table {
			out = append(out, "nftables table "+t.String())
		}
	}
	return out, nil
}
