package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"nodelet/internal/nft"
	"nodelet/internal/xtables"
)

// kubeProxyTable is the nf_tables table of kube-proxy's nftables mode.
const kubeProxyTable = "kube-proxy"

// kubeProxyChains are kube-proxy's in iptables, by prefix. KUBE-FIREWALL and
// the kubelet's hint and canary belong to the kubelet, and stay.
var kubeProxyChains = []string{
	"KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-NODEPORTS", "KUBE-NODE-PORT", "KUBE-POSTROUTING", "KUBE-MARK-MASQ",
	"KUBE-FORWARD", "KUBE-PROXY-", "KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-", "KUBE-FW-", "KUBE-EXT-", "KUBE-XLB-",
	"KUBE-LOAD-BALANCER", "KUBE-SOURCE-RANGES-FIREWALL", "KUBE-IPVS-",
}

func kubeProxys(chain string) bool {
	return slices.ContainsFunc(kubeProxyChains, func(p string) bool { return strings.HasPrefix(chain, p) })
}

// Foreign names what an upstream kube-proxy has left in the kernel, or keeps there.
func Foreign(ctx context.Context, netns int) ([]string, error) { return foreign(ctx, netns, false) }

// CleanupForeign removes it. A kube-proxy that runs puts it back.
func CleanupForeign(ctx context.Context, netns int) ([]string, error) {
	return foreign(ctx, netns, true)
}

func foreign(ctx context.Context, netns int, remove bool) (found []string, err error) {
	found, err = foreignTables(ctx, netns, remove)
	errs := []error{err}
	for _, v := range []xtables.Variant{xtables.Legacy, xtables.NFT} {
		for _, ipv6 := range []bool{false, true} {
			bulk, err := xtables.OpenBulk(v, ipv6, netns)
			if errors.Is(err, xtables.ErrNotInstalled) {
				continue
			}
			if err != nil {
				errs = append(errs, err)
				continue
			}
			for _, table := range []string{"nat", "filter", "mangle"} {
				what, err := foreignChains(ctx, bulk, table, remove)
				if errs = append(errs, err); what != "" {
					found = append(found, what)
				}
			}
			errs = append(errs, bulk.Close())
		}
	}
	left, err := findIPVS(netns)
	found = append(found, left.list()...)
	if errs = append(errs, err); remove {
		errs = append(errs, left.remove(netns))
	}
	return found, errors.Join(errs...)
}

func foreignTables(ctx context.Context, netns int, remove bool) (found []string, err error) {
	conn, err := nft.Open(nft.Options{NetNS: netns})
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	tables, err := conn.Tables(ctx)
	if err != nil {
		return nil, err
	}
	tx := &nft.Tx{}
	for _, t := range tables {
		if t.Name == kubeProxyTable {
			found = append(found, "kube-proxy's nftables table "+t.String())
			tx.DeleteTable(t)
		}
	}
	if !remove {
		return found, nil
	}
	return found, conn.Apply(ctx, tx)
}

func foreignChains(ctx context.Context, bulk *xtables.Bulk, table string, remove bool) (string, error) {
	text, err := bulk.Save(ctx, table)
	if err != nil {
		return "", err
	}
	lines, chains := unlinkForeign(string(text), table)
	if chains == 0 {
		return "", nil
	}
	what := fmt.Sprintf("kube-proxy's %d chains KUBE-* in %s table %s", chains, bulk, table)
	if !remove {
		return what, nil
	}
	return what, bulk.Restore(ctx, []byte(lines))
}

// unlinkForeign gives the lines that remove kube-proxy's chains and the rules
// of others that lead to them, and counts the chains.
func unlinkForeign(save, table string) (lines string, chains int) {
	var flush, unlink, remove strings.Builder
	for line := range strings.Lines(save) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, ":"); ok {
			if name, _, _ = strings.Cut(name, " "); kubeProxys(name) {
				chains++
				fmt.Fprintf(&flush, ":%s - [0:0]\n", name)
				fmt.Fprintf(&remove, "-X %s\n", name)
			}
			continue
		}
		rest, ok := strings.CutPrefix(line, "-A ")
		from, rule, _ := strings.Cut(rest, " ")
		if to := target(rule); ok && kubeProxys(to) && !kubeProxys(from) {
			fmt.Fprintf(&unlink, "-D %s\n", rest)
		}
	}
	return "*" + table + "\n" + flush.String() + unlink.String() + remove.String() + "COMMIT\n", chains
}

// target is the chain that a rule leads to.
func target(rule string) string {
	fields := strings.Fields(rule)
	for i := range fields[:max(0, len(fields)-1)] {
		if fields[i] == "-j" || fields[i] == "-g" {
			return fields[i+1]
		}
	}
	return ""
}
