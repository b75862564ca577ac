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

// Entries lists the pins and directories below a directory, by path, and itself.
// A directory that does not exist has none.
func Entries(dir string) ([]string, error) {
	var out []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		out = append(out, path)
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

// RemoveEmpty removes a directory unless there is something in it.
func RemoveEmpty(dir string) error {
	err := os.Remove(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTEMPTY) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove a directory of BPF pins: %w", err)
	}
	return nil
}
