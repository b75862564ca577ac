package cgroup

import (
	"os"
	"path/filepath"
)

// AccountsSwap tells whether the kernel limits the swap of cgroups: v1 does where it was booted to, v2
// where it was built to. The root of v2 has no limits of its own, so the root of our tree is made to be
// looked at.
func (t *Tree) AccountsSwap() bool {
	tree, v2, ok := t.h.tree("memory")
	if !ok {
		return false
	}
	file := filepath.Join(tree, "memory.memsw.limit_in_bytes")
	if v2 {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.enable(tree, t.root, "memory")
		if os.MkdirAll(filepath.Join(tree, t.root), 0o755) != nil {
			return false // whoever needs it comes upon the same error and reports it
		}
		file = filepath.Join(tree, t.root, "memory.swap.max")
	}
	_, err := os.Stat(file)
	return err == nil
}
