package cgroup

import (
	"os"
	"path/filepath"
	"testing"
)

// The kernel is asked, by the file that is there for each cgroup.
func TestAccountsSwap(t *testing.T) {
	tree := private(t)
	dir, v2, ok := tree.h.tree("memory")
	if !ok {
		t.Skip("needs the memory controller")
	}
	if _, err := tree.Ensure(Pod{UID: "swap", QoS: Guaranteed, Limits: Limits{Memory: 64 << 20}}); err != nil {
		t.Fatal(err)
	}
	file := "memory.memsw.limit_in_bytes"
	if v2 {
		file = "memory.swap.max"
	}
	_, err := os.Stat(filepath.Join(dir, tree.Path(Guaranteed, "swap"), file))
	if got := tree.AccountsSwap(); got != (err == nil) {
		t.Errorf("accounted %t, %s of a pod: %v", got, file, err)
	}
}

// Without the file there is no accounting, with it there is.
func TestAccountsSwapV2(t *testing.T) {
	tree := fakeV2(t)
	if tree.AccountsSwap() {
		t.Error("accounted by a kernel without the file")
	}
	write(t, filepath.Join(tree.h.unified, "kubepods"), "memory.swap.max", "max\n")
	if !tree.AccountsSwap() {
		t.Error("not accounted")
	}
}
