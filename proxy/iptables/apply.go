package iptables

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"nodelet/internal/nft"
	"nodelet/internal/xtables"
	"nodelet/proxy/lb"
)

// Config is what the back end has to know besides States.
type Config struct {
	// NetNS is a file descriptor of the network namespace; 0 is the own one.
	NetNS int
	// IPv6 writes the rules of that family too.
	IPv6 bool
	// Variant is the one to write; empty is the one this machine uses.
	Variant xtables.Variant
	// TCPBeLiberal: conntrack takes packets outside of the window for valid,
	// so that none of them need be dropped.
	TCPBeLiberal bool
}

// Backend keeps the chains. It is used by one goroutine at a time.
type Backend struct {
	cfg      Config
	families []*family
	// generations counts changes of the nf_tables variant; nil for legacy.
	generations *nft.Conn
	applied     *lb.State
	// seen is how the tables were after our last write; empty when nothing is known.
	seen string
	// looked is when the kernel was last read.
	looked time.Time
}

// family is one family's tables.
type family struct {
	ipv6 bool
	bulk *xtables.Bulk
	// content is what the State of the last Apply says.
	content *content
	// have is what the kernel holds, by table.
	have [2]rules
	// counts are how many rules that is, and how many the last round wrote.
	counts [2]lb.Rules
}

// New opens the back end. It changes nothing. Without the programs the error
// wraps xtables.ErrNotInstalled.
func New(ctx context.Context, cfg Config) (*Backend, error) {
	if cfg.Variant == "" {
		v, err := xtables.Detect(ctx, cfg.NetNS)
		if err != nil {
			return nil, err
		}
		cfg.Variant = v
	}
	b := &Backend{cfg: cfg}
	for _, ipv6 := range []bool{false, true} {
		if ipv6 && !cfg.IPv6 {
			continue
		}
		bulk, err := xtables.OpenBulk(cfg.Variant, ipv6, cfg.NetNS)
		if err != nil {
			return nil, errors.Join(err, b.Close())
		}
		b.families = append(b.families, &family{ipv6: ipv6, bulk: bulk})
	}
	if cfg.Variant == xtables.NFT {
		conn, err := nft.Open(nft.Options{NetNS: cfg.NetNS})
		if err != nil {
			return nil, errors.Join(err, b.Close())
		}
		b.generations = conn
	}
	return b, nil
}

// Close lets go of the kernel; the rules stay.
func (b *Backend) Close() error {
	var errs []error
	for _, f := range b.families {
		errs = append(errs, f.bulk.Close())
	}
	if b.generations != nil {
		errs = append(errs, b.generations.Close())
	}
	return errors.Join(errs...)
}

// Forget makes the next Apply look at the kernel.
func (b *Backend) Forget() { b.applied, b.seen = nil, "" }

// Apply makes the kernel say what want says. After an error nothing is known,
// and the next Apply looks at everything.
func (b *Backend) Apply(ctx context.Context, want *lb.State) (lb.Result, error) {
	before := b.applied
	b.applied = nil
	if before != nil && before.Config() != want.Config() {
		before = nil
	}
	result := lb.Result{Full: before == nil}
	for _, f := range b.families {
		n, gone, err := f.apply(ctx, change{before, want, b.cfg.TCPBeLiberal})
		if err != nil {
			b.Forget()
			return lb.Result{Full: result.Full}, err
		}
		result.Messages += n
		result.Rules = append(result.Rules, f.counts[:]...)
		result.Gone = append(result.Gone, gone...)
	}
	if result.Full || result.Messages > 0 {
		b.seen, _ = b.fingerprint(ctx) // not certain then
	}
	if result.Full {
		b.looked = time.Now()
	}
	b.applied = want
	return result, nil
}

// change is the way from one State, nil when the kernel is not known, to another.
type change struct {
	prev, next *lb.State
	liberal    bool
}

func (f *family) apply(ctx context.Context, ch change) (lines int, gone []lb.Frontend, err error) {
	var edits [2]edit
	if ch.prev == nil {
		f.content = contentOf(&renderer{ipv6: f.ipv6, liberal: ch.liberal, cfg: ch.next.Config()}, ch.next)
		edits, gone, err = f.look(ctx, ch.next)
		if err != nil {
			return 0, nil, err
		}
	} else {
		t := f.content.advance(ch.prev, ch.next)
		for i := range tables {
			edits[i] = diff(f.have[i], f.content.chains[i], maps.Keys(t[i]))
		}
	}
	var text strings.Builder
	for i := range tables {
		edits[i].text(&text, tables[i])
		lines += edits[i].lines()
	}
	if text.Len() > 0 {
		if err := f.bulk.Restore(ctx, []byte(text.String())); err != nil {
			return 0, nil, err
		}
	}
	for i, table := range tables {
		total := f.counts[i].Total
		if ch.prev == nil {
			total = f.have[i].len()
		}
		written := edits[i].rules()
		f.counts[i] = lb.Rules{Table: table, IPv6: f.ipv6, Total: total + written - edits[i].replaced(f.have[i]), Written: written}
		maps.Copy(f.have[i], edits[i].set)
		for _, name := range edits[i].remove {
			delete(f.have[i], name)
		}
	}
	return lines, gone, nil
}

// look reads the kernel, and gives what has to be written and which frontends
// were there that no Service has any more.
func (f *family) look(ctx context.Context, want *lb.State) (edits [2]edit, gone []lb.Frontend, err error) {
	for i, table := range tables {
		text, err := f.bulk.Save(ctx, table)
		if err != nil {
			return edits, nil, err
		}
		there := parse(text)
		f.have[i] = there.chains
		all := maps.Clone(there.chains)
		maps.Copy(all, f.content.chains[i])
		edits[i] = diff(there.chains, f.content.chains[i], maps.Keys(all))
		edits[i].relink(table, there.jumps)
		if i != nat {
			continue
		}
		for _, fe := range there.frontends(f.ipv6) {
			if _, still := want.Lookup(fe); !still {
				gone = append(gone, fe)
			}
		}
	}
	return edits, gone, nil
}

// lookEvery is how often all rules are read although nothing seems to have
// changed: the fingerprint of a legacy table does not see a rule that was put
// in another's place. As often as kube-proxy's full sync.
const lookEvery = time.Hour

// Untouched tells whether nobody has changed any rules since the last Apply.
func (b *Backend) Untouched(ctx context.Context) bool {
	if b.seen == "" || b.applied == nil || time.Since(b.looked) > lookEvery {
		return false
	}
	now, err := b.fingerprint(ctx)
	return err == nil && now == b.seen
}

// fingerprint is another one after somebody has added or removed a rule.
func (b *Backend) fingerprint(ctx context.Context) (string, error) {
	if b.generations != nil {
		g, err := b.generations.Generation(ctx)
		return fmt.Sprint("generation ", g.ID), err
	}
	var out []string
	for _, f := range b.families {
		for _, table := range tables {
			s, err := f.bulk.Size(table)
			if err != nil {
				return "", err
			}
			out = append(out, fmt.Sprint(s))
		}
	}
	return strings.Join(out, " "), nil
}
