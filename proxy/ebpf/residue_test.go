package ebpf

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"nodelet/internal/bpffs"
	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
)

// TestNothingIsLeft: Cleanup removes the directories too, and as long as one is
// there, Residue names it.
func TestNothingIsLeft(t *testing.T) {
	b, ctx := alone(t), t.Context()
	if _, err := b.Apply(ctx, lb.Compile(config, lbtest.Many(2, 2).Snapshot())); err != nil {
		t.Fatal(err)
	}
	pins := pinsOf(b.cfg.BPFFS, b.cookie)
	top := filepath.Dir(pins)
	for _, dir := range []string{pins, filepath.Join(pins, layout, "links")} {
		if left, err := b.Residue(ctx); err != nil || !slices.Contains(left, "BPF pin "+dir) {
			t.Errorf("residue before Cleanup is %v, %v; %s is missing", left, err, dir)
		}
	}
	if err := b.Cleanup(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(top); !os.IsNotExist(err) {
		t.Errorf("%s after Cleanup: %v", top, err)
	}
	if left, err := b.Residue(ctx); err != nil || len(left) > 0 {
		t.Errorf("residue after Cleanup: %v, %v", left, err)
	}
	if err := os.Mkdir(top, 0o700); err != nil {
		t.Fatal(err)
	}
	if left, err := b.Residue(ctx); err != nil || !slices.Equal(left, []string{"BPF pin " + top}) {
		t.Errorf("residue of an empty directory: %v, %v", left, err)
	}
	// Another node's on this machine is not ours.
	other := filepath.Join(top, "netns-1")
	if err := os.Mkdir(other, 0o700); err != nil {
		t.Fatal(err)
	}
	if left, err := b.Residue(ctx); err != nil || len(left) > 0 {
		t.Errorf("residue beside another node's: %v, %v", left, err)
	}
	if err := b.Cleanup(ctx); err != nil {
		t.Error(err)
	}
	if left, err := bpffs.Entries(other); err != nil || len(left) != 1 {
		t.Errorf("another node's directory after Cleanup: %v, %v", left, err)
	}
	if err := bpffs.Remove(top); err != nil {
		t.Error(err)
	}
}
