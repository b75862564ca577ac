package nftables

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"nodelet/internal/model"
	"nodelet/internal/nft"
	"nodelet/proxy/lb"
)

// probeTable never becomes visible.
const probeTable = tableName + "-probe"

// Detect proves that nf_tables can do what this package needs, and tells
// whether IPv6 works as well.
func Detect(ctx context.Context, netns int) (ipv6 bool, err error) {
	if err := Probe(ctx, netns, false); err != nil {
		return false, fmt.Errorf("use nf_tables for the service proxy: %w "+
			"(needs Linux 5.15 or later with CONFIG_NF_TABLES, NFT_NAT, NFT_FIB, NFT_NUMGEN, NFT_REJECT and conntrack, and root)", err)
	}
	return Probe(ctx, netns, true) == nil, nil
}

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
	for fe, kind := range f.probed() {
		c.set(e, fe, lb.Target{Port: f.probedPort(), Kind: kind})
	}
	tx := &nft.Tx{}
	if err := tx.Diff(nil, c.ruleset()); err != nil {
		return err
	}
	tx.DeleteTable(f.table)
	return conn.Apply(ctx, tx)
}

// probed are frontends of one of everything.
func (f *family) probed() map[lb.Frontend]lb.Kind {
	lo := f.loopback.Addr()
	return map[lb.Frontend]lb.Kind{
		{Addr: lo, Proto: model.TCP, Port: 1}: lb.ClusterIP, {Addr: lo}: lb.AnyPort,
		{Addr: lo, Proto: model.TCP, Port: 2}:      lb.LoadBalancerIP,
		{Addr: f.any(), Proto: model.TCP, Port: 3}: lb.NodePort,
	}
}

// probedPort is a port with all that needs something of its own in the kernel.
func (f *family) probedPort() *lb.Port {
	lo := f.loopback.Addr()
	to := []lb.Endpoint{{AddrPort: netip.AddrPortFrom(lo, 1), Here: true}, {AddrPort: netip.AddrPortFrom(lo, 2)}}
	return &lb.Port{
		Proto: model.TCP, ClusterIP: netip.AddrPortFrom(lo, 1), Affinity: time.Hour, ExternalLocal: true, Usable: true,
		Sources: []netip.Prefix{f.loopback}, Cluster: to, Local: to[:1],
	}
}
