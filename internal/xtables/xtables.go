package xtables

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/coreos/go-iptables/iptables"
)

// Variant is one of the two kernel interfaces behind the iptables programs.
type Variant string

// The variants. Both can be filled at the same time; every packet meets both.
const (
	Legacy Variant = "legacy"
	NFT    Variant = "nft"
)

// ErrNotInstalled says that the programs of a variant are missing.
var ErrNotInstalled = errors.New("iptables program is not installed")

// lockWait is how many seconds to wait for the lock of other iptables programs.
const lockWait = 5

// Tables are the iptables of one variant and family.
type Tables struct {
	ipt  *iptables.IPTables
	name string
}

// Open finds the programs of a variant; IPv6 when v6 is set. Without them the
// error wraps ErrNotInstalled.
func Open(v Variant, v6 bool) (*Tables, error) {
	name, proto := "iptables", iptables.ProtocolIPv4
	if v6 {
		name, proto = "ip6tables", iptables.ProtocolIPv6
	}
	path, err := exec.LookPath(name + "-" + string(v))
	if err != nil {
		return nil, fmt.Errorf("find %s-%s: %w (Debian package iptables)", name, v, ErrNotInstalled)
	}
	ipt, err := iptables.New(iptables.IPFamily(proto), iptables.Path(path), iptables.Timeout(lockWait))
	if err != nil {
		return nil, fmt.Errorf("ask %s for its version: %w", path, err)
	}
	return &Tables{ipt: ipt, name: name + "-" + string(v)}, nil
}

// String is the name of the program.
func (t *Tables) String() string { return t.name }

// InUse says whether a legacy table exists in the kernel; asking iptables
// itself would create it.
func InUse(table string, v6 bool) bool {
	path := "/proc/thread-self/net/ip_tables_names"
	if v6 {
		path = "/proc/thread-self/net/ip6_tables_names"
	}
	b, err := os.ReadFile(path)
	return err == nil && slices.Contains(strings.Fields(string(b)), table)
}

// PolicyDrops says whether packets that reach the end of a built-in chain are dropped.
func (t *Tables) PolicyDrops(table, chain string) (bool, error) {
	rules, err := t.ipt.List(table, chain)
	if err != nil {
		return false, fmt.Errorf("list %s chain %s %s: %w", t.name, table, chain, err)
	}
	return slices.Contains(rules, fmt.Sprintf("-P %s DROP", chain)), nil
}

// Chains lists the chains of a table.
func (t *Tables) Chains(table string) ([]string, error) {
	chains, err := t.ipt.ListChains(table)
	if err != nil {
		return nil, fmt.Errorf("list %s chains of %s: %w", t.name, table, err)
	}
	return chains, nil
}

// EnsureChain makes the chain own hold exactly these rules, and be the first
// that the built-in chain hook jumps to. It says whether anything had to change.
func (t *Tables) EnsureChain(table, hook, own string, rules [][]string) (changed bool, err error) {
	want := []string{"-N " + own}
	for _, r := range rules {
		want = append(want, "-A "+own+" "+strings.Join(r, " "))
	}
	have, err := t.list(table, own)
	if err != nil {
		return false, err
	}
	if !slices.Equal(have, want) {
		changed = true
		if err := t.ipt.ClearChain(table, own); err != nil {
			return true, fmt.Errorf("make %s chain %s %s: %w", t.name, table, own, err)
		}
		for _, r := range rules {
			if err := t.ipt.Append(table, own, r...); err != nil {
				return true, fmt.Errorf("add %s rule to %s %s: %w", t.name, table, own, err)
			}
		}
	}
	jump := []string{"-j", own}
	there, err := t.ipt.Exists(table, hook, jump...)
	if err != nil {
		return changed, fmt.Errorf("look for %s jump from %s to %s: %w", t.name, hook, own, err)
	}
	if !there {
		if err := t.ipt.Insert(table, hook, 1, jump...); err != nil {
			return true, fmt.Errorf("add %s jump from %s to %s: %w", t.name, hook, own, err)
		}
	}
	return changed || !there, nil
}

// list gives the rules of a chain, none when there is no such chain. The
// programs' versions word "no such chain" differently, so it is looked up.
func (t *Tables) list(table, chain string) ([]string, error) {
	chains, err := t.Chains(table)
	if err != nil || !slices.Contains(chains, chain) {
		return nil, err
	}
	rules, err := t.ipt.List(table, chain)
	if err != nil {
		return nil, fmt.Errorf("list %s chain %s %s: %w", t.name, table, chain, err)
	}
	return rules, nil
}

// RemoveChain removes the jump from hook and the chain, and says whether there
// was such a chain.
func (t *Tables) RemoveChain(table, hook, own string) (removed bool, err error) {
	chains, err := t.Chains(table)
	if err != nil || !slices.Contains(chains, own) {
		return false, err
	}
	if err := t.ipt.DeleteIfExists(table, hook, "-j", own); err != nil {
		return false, fmt.Errorf("remove %s jump from %s to %s: %w", t.name, hook, own, err)
	}
	if err := t.ipt.ClearAndDeleteChain(table, own); err != nil {
		return false, fmt.Errorf("remove %s chain %s %s: %w", t.name, table, own, err)
	}
	return true, nil
}
