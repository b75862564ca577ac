package disk

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// flags are the mount options that are flags of the system call; all others go
// to the file system.
var flags = map[string]uintptr{
	"defaults": 0, "rw": 0,
	"ro": unix.MS_RDONLY, "nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC,
	"sync": unix.MS_SYNCHRONOUS, "dirsync": unix.MS_DIRSYNC, "noatime": unix.MS_NOATIME, "nodiratime": unix.MS_NODIRATIME,
	"relatime": unix.MS_RELATIME, "strictatime": unix.MS_STRICTATIME, "lazytime": unix.MS_LAZYTIME,
}

// Mount puts the file system of a device on dir. Several mounts of a device are
// one and the same file system.
func Mount(device, dir, fsType string, options []string) error {
	var flag uintptr
	var data []string
	for _, o := range options {
		if f, ok := flags[o]; ok {
			flag |= f
		} else {
			data = append(data, o)
		}
	}
	err := unix.Mount(device, dir, fsType, flag, strings.Join(data, ","))
	switch {
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("mount device %s: this kernel does not know file system %s", device, fsType)
	case errors.Is(err, unix.EINVAL) && len(options) > 0:
		return fmt.Errorf("mount device %s (%s) with options %q: %w: the kernel's log says more", device, fsType, options, err)
	case err != nil:
		return fmt.Errorf("mount device %s (%s) on %s: %w", device, fsType, dir, err)
	}
	return nil
}
