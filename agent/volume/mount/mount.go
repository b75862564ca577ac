package mount

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// IsMount reports whether something is mounted on path itself.
func IsMount(path string) (bool, error) {
	var st unix.Statx_t
	// AT_NO_AUTOMOUNT and not following links: the question must not change the answer.
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_TYPE, &st); err != nil {
		return false, fmt.Errorf("look for a mount on %s: %w", path, err)
	}
	if st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
	}
	mounts, err := Below(path)
	return len(mounts) > 0 && mounts[len(mounts)-1] == path, err
}

// Tmpfs says how to mount a tmpfs.
type Tmpfs struct {
	// Mode and GID of its root; GID is -1 for the daemon's own.
	Mode uint32
	GID  int64
	// Size in bytes; 0 for the kernel's default, half of the memory.
	Size int64
}

// Mount puts the tmpfs on dir. Its content is kept out of swap where the
// kernel can do that (6.4): secrets go there.
func (t Tmpfs) Mount(dir string) error {
	options := []string{"mode=" + strconv.FormatUint(uint64(t.Mode), 8)}
	if t.GID >= 0 {
		options = append(options, "gid="+strconv.FormatInt(t.GID, 10))
	}
	if t.Size > 0 {
		options = append(options, "size="+strconv.FormatInt(t.Size, 10))
	}
	err := unix.Mount("tmpfs", dir, "tmpfs", 0, strings.Join(append(options, "noswap"), ","))
	if errors.Is(err, unix.EINVAL) {
		err = unix.Mount("tmpfs", dir, "tmpfs", 0, strings.Join(options, ","))
	}
	if err != nil {
		return fmt.Errorf("mount tmpfs on %s: %w", dir, err)
	}
	return nil
}

// NoSwap reports whether the kernel can keep a tmpfs out of swap, for us: not
// before 6.4, nor in a user namespace.
func NoSwap() bool {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return false
	}
	defer unix.Close(fs)
	return unix.FsconfigSetFlag(fs, "noswap") == nil
}

// HugePages says how to mount a hugetlbfs.
type HugePages struct {
	// Mode and GID of its root; GID is -1 for the daemon's own.
	Mode uint32
	GID  int64
	// Size of its pages in bytes.
	Size int64
}

// Mount puts the hugetlbfs on dir. The kernel refuses a size of pages that it does not have.
func (h HugePages) Mount(dir string) error {
	if err := h.mount(dir); err != nil {
		return fmt.Errorf("mount hugetlbfs with pages of %d bytes on %s: %w", h.Size, dir, err)
	}
	return nil
}

// mount makes the file system before it puts it in its place, so that what is there is complete: the option
// for the mode takes no set-group-id bit.
func (h HugePages) mount(dir string) error {
	fs, err := unix.Fsopen("hugetlbfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(fs)
	options := [][2]string{{"pagesize", strconv.FormatInt(h.Size, 10)}}
	if h.GID >= 0 {
		options = append(options, [2]string{"gid", strconv.FormatInt(h.GID, 10)})
	}
	for _, o := range options {
		if err := unix.FsconfigSetString(fs, o[0], o[1]); err != nil {
			return fmt.Errorf("%s=%s: %w", o[0], o[1], err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return err
	}
	mnt, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return err
	}
	defer unix.Close(mnt)
	if err := unix.Chmod("/proc/self/fd/"+strconv.Itoa(mnt), h.Mode); err != nil {
		return err
	}
	return unix.MoveMount(mnt, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// BindFD binds what fd stands for, opened with O_PATH, to target. What is
// mounted further below it is not taken along.
func BindFD(fd int, target string) error {
	// The link in /proc leads to the open file itself, whatever its name means by now.
	if err := unix.Mount("/proc/self/fd/"+strconv.Itoa(fd), target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind to %s: %w", target, err)
	}
	return nil
}

// Unmount takes away the topmost mount on path. It is an error when the mount
// is in use: taking it away lazily would hide who uses it.
func Unmount(path string) error {
	if err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW); err != nil {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	return nil
}

// UnmountBelow takes away every mount on dir and below it, the innermost first.
func UnmountBelow(dir string) error {
	mounts, err := Below(dir)
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if err := Unmount(m); err != nil {
			return err
		}
	}
	return nil
}
