package nft

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
)

// Chains lists the chains of a table, anybody's, without their rules.
func (c *Conn) Chains(ctx context.Context, t Table) ([]FoundChain, error) { return c.chains(ctx, t) }

// RulesOf lists the rules of one chain, anybody's.
func (c *Conn) RulesOf(ctx context.Context, t Table, chain string) (found []FoundRule, err error) {
	ask := request(unix.NFT_MSG_GETRULE, t.Family, func(e *encoder) {
		e.str(unix.NFTA_RULE_TABLE, t.Name)
		e.str(unix.NFTA_RULE_CHAIN, chain)
	})
	err = c.dump(ctx, "list rules of "+t.String()+" "+chain, ask, dumpHandler{
		restart: func() { found = nil },
		each: func(_ Family, b []byte) {
			if table, of, rule := parseRule(b); table == t.Name && of == chain {
				found = append(found, rule)
			}
		},
	})
	return found, err
}

// InsertRule puts a rule before all others of a chain.
func (tx *Tx) InsertRule(t Table, chain string, r Rule) {
	encoded, err := encodeRule(t.Family, r)
	if err != nil {
		tx.err = fmt.Errorf("encode rule %q of chain %s %s: %w", r, t, chain, err)
		return
	}
	done := tx.message(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE, op{verb: "insert", kind: "rule into chain", table: t, name: chain})
	tx.e.str(unix.NFTA_RULE_TABLE, t.Name)
	tx.e.str(unix.NFTA_RULE_CHAIN, chain)
	tx.e.bytes(unix.NFTA_RULE_EXPRESSIONS|unix.NLA_F_NESTED, encoded)
	tx.e.bytes(unix.NFTA_RULE_USERDATA, userData(r, encoded))
	done()
}
