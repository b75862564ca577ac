package proxy

import (
	"context"
	"fmt"

	"nodelet/proxy/nftables"
)

// detect proves that nf_tables can do what the back end needs, by a
// transaction that makes one of everything and takes it back: nothing of it is
// ever visible. It tells whether IPv6 works as well.
func detect(ctx context.Context, netns int) (ipv6 bool, err error) {
	if err := nftables.Probe(ctx, netns, false); err != nil {
		return false, fmt.Errorf("use nf_tables for the service proxy: %w "+
			"(needs Linux 5.15 or later with CONFIG_NF_TABLES, NFT_NAT, NFT_FIB, NFT_NUMGEN, NFT_REJECT and conntrack, and root)", err)
	}
	return nftables.Probe(ctx, netns, true) == nil, nil
}
