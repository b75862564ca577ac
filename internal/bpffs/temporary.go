package bpffs

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Temporary mounts a BPF file system of its own in a new directory. It has
// nothing to do with the one at Root.
func Temporary() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "nodelet-bpf-"); err != nil {
		return "", fmt.Errorf("make a directory for a BPF file system: %w", err)
	}
	if err := Ensure(dir); err != nil {
		return "", errors.Join(err, os.Remove(dir))
	}
	return dir, nil
}

// RemoveTemporary unmounts it, with all that is pinned there.
func RemoveTemporary(dir string) error {
	if err := unix.Unmount(dir, 0); err != nil {
		return fmt.Errorf("unmount the BPF file system at %s: %w", dir, err)
	}
	if err := os.Remove(dir); err != nil {
		return fmt.Errorf("remove the directory of a BPF file system: %w", err)
	}
	return nil
}
