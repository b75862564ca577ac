package bpffs

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Temporary is a BPF file system of its own that is mounted nowhere: only a
// descriptor of this process leads there. The kernel frees it with the
// descriptor, and with it all that is pinned there, however the process ends.
type Temporary struct{ root *os.File }

// NewTemporary makes one (needs Linux 5.2).
func NewTemporary() (*Temporary, error) {
	fd, err := unix.Fsopen("bpf", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open a BPF file system: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.FsconfigSetString(fd, "mode", "0700"); err != nil {
		return nil, fmt.Errorf("set the mode of a BPF file system: %w", err)
	}
	if err := unix.FsconfigCreate(fd); err != nil {
		return nil, fmt.Errorf("make a BPF file system: %w", err)
	}
	root, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return nil, fmt.Errorf("get at a BPF file system: %w", err)
	}
	return &Temporary{os.NewFile(uintptr(root), "bpf")}, nil
}

// Dir is its root, for this process only.
func (t *Temporary) Dir() string { return fmt.Sprintf("/proc/self/fd/%d", t.root.Fd()) }

// Close lets it go, with all that is pinned there.
func (t *Temporary) Close() error {
	if err := t.root.Close(); err != nil {
		return fmt.Errorf("close a BPF file system: %w", err)
	}
	return nil
}
