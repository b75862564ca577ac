package cni

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"nodelet/cni/plugin"
	"nodelet/cni/ruleset"
	"nodelet/internal/nft"
	"nodelet/internal/xtables"
)

// Foreign firewalls drop what is forwarded: Docker by the policy of iptables'
// FORWARD chain, ufw likewise, firewalld by the last rule of its own table,
// others by the policy of a chain in nftables.conf. An accept in a table of our
// own does not help: each base chain decides anew, and one drop is final. What
// helps is an accept in the very chain that drops.

const (
	// forwardChain is our chain in iptables' filter table.
	forwardChain = "NODELET-FORWARD"
	// foreignComment marks our rules in other programs' nftables chains.
	foreignComment = "nodelet-cni: forward pods"
	// firewallPause bounds how often the iptables programs are executed.
	firewallPause = 10 * time.Second
)

// dropper is a forward chain that drops pods' packets, and who it belongs to.
type dropper struct {
	owner string
	// table and chain in nftables; with tables set it is iptables' FORWARD.
	table  nft.Table
	chain  string
	tables *xtables.Tables
}

// String says where it is and whose.
func (d dropper) String() string {
	if d.tables != nil {
		return fmt.Sprintf("%s FORWARD (%s)", d.tables, d.owner)
	}
	return fmt.Sprintf("nftables %s %s (%s)", d.table, d.chain, d.owner)
}

// applyFirewall lets forwarded packets of pods pass every chain that would
// drop them.
func (c *CNI) applyFirewall(ctx context.Context, network plugin.Config) error {
	if wait := firewallPause - time.Since(c.firewallSeen); wait > 0 {
		// What woke the loop may have been a firewall that starts just now.
		if !c.firewallDue {
			c.firewallDue = true
			time.AfterFunc(wait, c.lookAgain)
		}
		return nil
	}
	c.firewallDue = false
	conn, err := nft.Open(nft.Options{})
	if err != nil {
		return err
	}
	defer conn.Close()
	found, err := droppers(ctx, conn, network.Subnets)
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range found {
		changed, err := d.pass(ctx, conn, network.Subnets)
		if err != nil {
			errs = append(errs, fmt.Errorf("let pods pass %s: %w", d, err))
			continue
		}
		if changed {
			c.deps.Log.Warn("pod network: a firewall drops forwarded packets; added accept rules for pods to it", "firewall", d.String(), "subnets", network.Subnets)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	c.firewallSeen = time.Now()
	return nil
}

// droppers finds the chains that drop what is forwarded.
func droppers(ctx context.Context, conn *nft.Conn, subnets []netip.Prefix) ([]dropper, error) {
	tables, err := conn.Tables(ctx)
	if err != nil {
		return nil, err
	}
	var found []dropper
	for _, t := range tables {
		if !reaches(t.Family, subnets) || strings.HasPrefix(t.Name, ruleset.OwnPrefix) {
			continue
		}
		chains, err := conn.Chains(ctx, t)
		if err != nil {
			return nil, err
		}
		for _, ch := range chains {
			drops := ch.Base != nil && ch.Base.Hook == nft.Forward && (ch.Base.Drop || t.Name == "firewalld")
			if drops {
				d := dropper{owner: owner(t.Name, names(chains)), table: t, chain: ch.Name}
				d.tables = iptablesOf(t, ch.Name)
				found = append(found, d)
			}
		}
	}
	legacy, err := legacyDroppers(subnets)
	return append(found, legacy...), err
}

// iptablesOf gives the programs of a chain that is iptables-nft's, so that our
// rules look to them like any other; nil when they are not installed.
func iptablesOf(t nft.Table, chain string) *xtables.Tables {
	if t.Name != "filter" || chain != "FORWARD" || t.Family == nft.Inet {
		return nil
	}
	tables, err := xtables.Open(xtables.NFT, t.Family == nft.IPv6)
	if err != nil {
		return nil
	}
	return tables
}

func legacyDroppers(subnets []netip.Prefix) ([]dropper, error) {
	var found []dropper
	for _, v6 := range []bool{false, true} {
		if !xtables.InUse("filter", v6) || !has(subnets, func(a netip.Addr) bool { return a.Is6() == v6 }) {
			continue
		}
		tables, err := xtables.Open(xtables.Legacy, v6)
		if err != nil {
			return nil, fmt.Errorf("look for rules that drop forwarded packets: the kernel has legacy iptables: %w", err)
		}
		drops, err := tables.PolicyDrops("filter", "FORWARD")
		if err != nil {
			return nil, err
		}
		if !drops {
			continue
		}
		chains, err := tables.Chains("filter")
		if err != nil {
			return nil, err
		}
		found = append(found, dropper{owner: owner("filter", chains), tables: tables})
	}
	return found, nil
}

// pass adds the accept rules; they stay when the firewall no longer drops,
// where they do no harm, until Cleanup.
func (d dropper) pass(ctx context.Context, conn *nft.Conn, subnets []netip.Prefix) (changed bool, err error) {
	if d.tables != nil {
		var rules [][]string
		for _, s := range subnets {
			if s.Addr().Is6() == strings.HasPrefix(d.tables.String(), "ip6") {
				rules = append(rules, []string{"-s", s.String(), "-j", "ACCEPT"}, []string{"-d", s.String(), "-j", "ACCEPT"})
			}
		}
		return d.tables.EnsureChain("filter", "FORWARD", forwardChain, rules)
	}
	want := acceptRules(d.table.Family, subnets)
	have, err := conn.RulesOf(ctx, d.table, d.chain)
	if err != nil {
		return false, err
	}
	var tx nft.Tx
	for _, r := range want {
		digest, err := nft.DigestOf(d.table.Family, r)
		if err != nil {
			return false, err
		}
		if !slices.ContainsFunc(have, func(h nft.FoundRule) bool { return h.Digest == digest }) {
			tx.InsertRule(d.table, d.chain, r)
		}
	}
	return !tx.Empty(), conn.Apply(ctx, &tx)
}

func acceptRules(family nft.Family, subnets []netip.Prefix) []nft.Rule {
	var rules []nft.Rule
	for _, s := range subnets {
		is, src, dst, of := nft.IsIPv4(), nft.SrcAddr4, nft.DstAddr4, nft.IPv4
		if s.Addr().Is6() {
			is, src, dst, of = nft.IsIPv6(), nft.SrcAddr6, nft.DstAddr6, nft.IPv6
		}
		if family != nft.Inet && family != of {
			continue
		}
		for _, field := range []nft.Field{src, dst} {
			rules = append(rules, nft.Rule{Comment: foreignComment, Do: []nft.Stmt{is, nft.Is(field, s), nft.Accept()}})
		}
	}
	return rules
}

// reaches says whether packets of the subnets meet tables of that family.
func reaches(f nft.Family, subnets []netip.Prefix) bool {
	return f == nft.Inet || f == nft.IPv4 && has(subnets, netip.Addr.Is4) || f == nft.IPv6 && has(subnets, netip.Addr.Is6)
}

// owner names the program whose chains these are, for people.
func owner(table string, chains []string) string {
	part := func(prefix string) bool {
		return slices.ContainsFunc(chains, func(c string) bool { return strings.HasPrefix(c, prefix) })
	}
	switch {
	case table == "firewalld":
		return "firewalld"
	case part("DOCKER"):
		return "Docker"
	case part("ufw-") || part("ufw6-"):
		return "ufw"
	case part("LIBVIRT"):
		return "libvirt"
	}
	return "unknown program"
}

func names(chains []nft.FoundChain) []string {
	out := make([]string, len(chains))
	for i, c := range chains {
		out[i] = c.Name
	}
	return out
}
