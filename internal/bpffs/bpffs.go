package bpffs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Root is where the file system is mounted by custom.
const Root = "/sys/fs/bpf"

// Mounted tells whether a directory is in a BPF file system.
func Mounted(dir string) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return false, fmt.Errorf("look for the BPF file system at %s: %w", dir, err)
	}
	return st.Type == unix.BPF_FS_MAGIC, nil
}

// Ensure mounts the BPF file system at root unless it is there.
func Ensure(root string) error {
	is, err := Mounted(root)
	if err != nil || is {
		return err
	}
	if err := unix.Mount("bpf", root, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_RELATIME, "mode=0700"); err != nil {
		return fmt.Errorf("mount the BPF file system at %s (needs root; in a container, mount the host's there): %w", root, err)
	}
	return nil
}

// Pins lists what is pinned below a directory, by path. A directory that does not exist has none.
func Pins(dir string) ([]string, error) {
	var out []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && !d.IsDir() {
			out = append(out, path)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list BPF pins: %w", err)
	}
	return out, nil
}

// Remove removes a directory with its pins. What a pin alone kept alive ends:
// a link is detached, a map freed.
func Remove(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove BPF pins: %w", err)
	}
	return nil
}
