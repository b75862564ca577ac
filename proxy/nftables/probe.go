package nftables

import (
	"context"
	"net/netip"
	"time"

	"nodelet/internal/nft"
	"nodelet/proxy/lb"
)

// probeTable never becomes visible.
const probeTable = tableName + "-probe"

// Probe tells whether the kernel takes everything that this package writes, by
// one transaction that makes it and removes it again.
func Probe(ctx context.Context, netns int, ipv6 bool) error {
	conn, err := nft.Open(nft.Options{NetNS: netns})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	f := familyOf(ipv6)
	f.table.Name = probeTable
	cfg := &lb.Config{PodCIDRs: []netip.Prefix{netip.PrefixFrom(f.any(), 8)}}
	c := newContent(f, cfg)
	e := newEdits()
	for _, nodePort := range []bool{false, true} {
		c.need(e, plan{nodePort: nodePort, policy: external, cluster: 2, local: 1, sticky: true, guarded: !nodePort}, true)
		c.needSticky(e, nodePort, row{sticky: time.Hour})
	}
	tx := &nft.Tx{}
	if err := tx.Diff(nil, c.ruleset()); err != nil {
		return err
	}
	tx.DeleteTable(f.table)
	return conn.Apply(ctx, tx)
}
