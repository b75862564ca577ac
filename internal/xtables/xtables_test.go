package xtables

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"nodelet/internal/netns"
)

func TestChainBesideOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	t.Setenv("XTABLES_LOCKFILE", filepath.Join(t.TempDir(), "lock"))
	for _, v := range []Variant{Legacy, NFT} {
		for _, v6 := range []bool{false, true} {
			ns, err := netns.New()
			if err != nil {
				t.Fatal(err)
			}
			defer ns.Close()
			if err := ns.Do(func() error { return chain(t, v, v6) }); err != nil {
				t.Errorf("%s v6=%v: %v", v, v6, err)
			}
		}
	}
}

func chain(t *testing.T, v Variant, v6 bool) error {
	if InUse("filter", v6) {
		t.Error("an empty namespace has legacy tables")
	}
	tables, err := Open(v, v6)
	if errors.Is(err, ErrNotInstalled) {
		t.Skip(err)
	}
	if err != nil {
		return err
	}
	source := map[bool]string{false: "10.244.1.0/24", true: "fd00::/64"}[v6]
	rules := [][]string{{"-s", source, "-j", "ACCEPT"}}
	for _, want := range []bool{true, false} {
		changed, err := tables.EnsureChain("filter", "FORWARD", "NODELET-TEST", rules)
		if err != nil || changed != want {
			t.Errorf("%s: ensure: changed %v, want %v: %v", tables, changed, want, err)
		}
	}
	if InUse("filter", v6) != (v == Legacy) {
		t.Errorf("%s: legacy table in use: %v", tables, InUse("filter", v6))
	}
	if err := tables.ipt.Append("filter", "NODELET-TEST", "-j", "DROP"); err != nil {
		return err
	}
	if err := tables.ipt.Append("filter", "FORWARD", "-j", "RETURN"); err != nil { // somebody else's
		return err
	}
	if changed, err := tables.EnsureChain("filter", "FORWARD", "NODELET-TEST", rules); err != nil || !changed {
		t.Errorf("%s: a changed chain: %v %v", tables, changed, err)
	}
	if drops, err := tables.PolicyDrops("filter", "FORWARD"); err != nil || drops {
		t.Errorf("%s: policy drops %v: %v", tables, drops, err)
	}
	if err := tables.ipt.ChangePolicy("filter", "FORWARD", "DROP"); err != nil {
		return err
	}
	if drops, err := tables.PolicyDrops("filter", "FORWARD"); err != nil || !drops {
		t.Errorf("%s: policy drops %v: %v", tables, drops, err)
	}
	for _, want := range []bool{true, false} {
		if removed, err := tables.RemoveChain("filter", "FORWARD", "NODELET-TEST"); err != nil || removed != want {
			t.Errorf("%s: remove: %v, want %v: %v", tables, removed, want, err)
		}
	}
	left, err := tables.ipt.List("filter", "FORWARD")
	if err != nil || !slices.Equal(left, []string{"-P FORWARD DROP", "-A FORWARD -j RETURN"}) {
		t.Errorf("%s: left: %v %v", tables, left, err)
	}
	return nil
}
