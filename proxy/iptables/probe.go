package iptables

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"nodelet/internal/model"
	"nodelet/internal/netns"
	"nodelet/internal/xtables"
	"nodelet/proxy/lb"
)

// Detect proves that iptables takes everything that this package writes, by
// writing one of everything in a network namespace that nobody else sees and
// that ends with the trial. It tells whether IPv6 works as well.
func Detect(ctx context.Context, cfg Config) (ipv6 bool, err error) {
	if cfg.Variant == "" {
		if cfg.Variant, err = xtables.Detect(ctx, cfg.NetNS); err != nil {
			return false, err
		}
	}
	ns, err := netns.New()
	if err != nil {
		return false, fmt.Errorf("try iptables: %w", err)
	}
	defer func() { _ = ns.Close() }()
	cfg.NetNS = ns.Fd()
	if err := try(ctx, cfg, false); err != nil {
		return false, fmt.Errorf("try iptables-%s: %w (needs the matches addrtype, comment, conntrack, mark, recent, statistic "+
			"and the targets DNAT, MARK, MASQUERADE, REJECT, and root)", cfg.Variant, err)
	}
	return try(ctx, cfg, true) == nil, nil
}

func try(ctx context.Context, cfg Config, ipv6 bool) error {
	bulk, err := xtables.OpenBulk(cfg.Variant, ipv6, cfg.NetNS)
	if err != nil {
		return err
	}
	defer func() { _ = bulk.Close() }()
	var text strings.Builder
	for i, chains := range sample(ipv6).chains {
		e := edit{set: chains}
		e.relink(tables[i], nil)
		e.text(&text, tables[i])
	}
	if err := bulk.Restore(ctx, []byte(text.String())); err != nil {
		return err
	}
	for _, table := range tables {
		text, err := bulk.Save(ctx, table)
		if err != nil {
			return err
		}
		if f := parse(text); f.empty() {
			return errors.New("the rules that were written are not there")
		}
	}
	return nil
}

// sample has one of everything.
func sample(ipv6 bool) *content {
	at := func(i byte) netip.Addr {
		if ipv6 {
			return netip.AddrFrom16([16]byte{0: 0xfd, 15: i})
		}
		return netip.AddrFrom4([4]byte{10, 0, 0, i})
	}
	r := &renderer{ipv6: ipv6, cfg: &lb.Config{PodCIDRs: []netip.Prefix{netip.PrefixFrom(at(0), 8)}, LocalhostNodePorts: true}}
	eps := []lb.Endpoint{{AddrPort: netip.AddrPortFrom(at(1), 80), Here: true}, {AddrPort: netip.AddrPortFrom(at(2), 80)}}
	p := &lb.Port{
		Name: "p", Proto: model.TCP, ClusterIP: netip.AddrPortFrom(at(3), 80), Affinity: time.Hour, ExternalLocal: true,
		Sources: []netip.Prefix{netip.PrefixFrom(at(4), at(4).BitLen())}, Cluster: eps, Local: eps[:1], Usable: true,
		Others: []lb.Claim{{Frontend: lb.Frontend{Addr: at(5), Proto: model.TCP, Port: 80}, Kind: lb.LoadBalancerIP}},
	}
	c, t := newContent(r), &touched{}
	c.movePorts(map[*lb.Port]int{p: 3}, t)
	buckets := map[bucket]bool{}
	any := lb.Frontend{Addr: netip.IPv4Unspecified(), Proto: model.TCP, Port: 30080}
	if ipv6 {
		any.Addr = netip.IPv6Unspecified()
	}
	for f, kind := range map[lb.Frontend]lb.Kind{
		{Addr: at(3), Proto: model.TCP, Port: 80}: lb.ClusterIP, {Addr: at(3)}: lb.AnyPort, any: lb.NodePort, p.Others[0].Frontend: lb.LoadBalancerIP,
	} {
		b := bucketOf(f)
		if buckets[b] = true; c.members[b] == nil {
			c.members[b] = map[lb.Frontend]lb.Target{}
		}
		c.members[b][f] = lb.Target{Port: p, Kind: kind}
	}
	c.fillBuckets(buckets, t)
	return c
}
