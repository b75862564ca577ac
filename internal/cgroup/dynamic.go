package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// favorDynMods is the mount option of cgroup2 (Linux 6.0) that keeps the lock of all cgroups, v1 included,
// ready to be written: moving a process into a cgroup then waits for no grace period of RCU, some 10 ms
// that every container start meets several times. Forks and exits pay a memory barrier for it.
const favorDynMods = "favordynmods"

// mountinfoFile lists the mounts of this process.
const mountinfoFile = "/proc/self/mountinfo"

// FavorDynamic sets that option for the machine, and notes in the file marker that it did. Where it is
// set already it does nothing. errors.ErrUnsupported: the kernel does not know it, there is no cgroup2,
// or this process may not.
func FavorDynamic(marker string) error { return machine().favor(marker) }

// RestoreDynamic takes the option back if FavorDynamic set it.
func RestoreDynamic(marker string) error { return machine().restore(marker) }

// DynamicFavored tells whether the option is set, whoever did it.
func DynamicFavored() (bool, error) {
	_, options, err := unifiedOptions(mountinfoFile)
	return slices.Contains(options, favorDynMods), err
}

// UnfavorDynamic takes the option back, whoever set it.
func UnfavorDynamic() error { return machine().set(false) }

// dynamic is the machine that has the option.
type dynamic struct {
	mountinfo   string
	reconfigure func(dir string, options []string) error
}

func machine() dynamic { return dynamic{mountinfoFile, reconfigure} }

func (d dynamic) favor(marker string) error {
	dir, options, err := unifiedOptions(d.mountinfo)
	if err != nil || slices.Contains(options, favorDynMods) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(marker), 0o755); err != nil {
		return fmt.Errorf("note a mount option of cgroup2: %w", err)
	}
	if err := os.WriteFile(marker, []byte(dir+"\n"), 0o644); err != nil {
		return fmt.Errorf("note a mount option of cgroup2: %w", err)
	}
	if err := d.set(true); err != nil {
		return errors.Join(fmt.Errorf("set mount option %s of %s: %w", favorDynMods, dir, err), os.Remove(marker))
	}
	return nil
}

func (d dynamic) restore(marker string) error {
	if _, err := os.Stat(marker); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := d.set(false); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("take back mount option %s of cgroup2: %w", favorDynMods, err)
	}
	return os.Remove(marker)
}

// set sees to it that the option is set, or is not.
func (d dynamic) set(on bool) error {
	dir, options, err := unifiedOptions(d.mountinfo)
	if err != nil || slices.Contains(options, favorDynMods) == on {
		return err
	}
	if !on {
		return d.reconfigure(dir, slices.DeleteFunc(options, func(o string) bool { return o == favorDynMods }))
	}
	if err := d.reconfigure(dir, append(options, favorDynMods)); err != nil {
		return err
	}
	// In a cgroup namespace the kernel says yes and does nothing.
	if _, options, err = unifiedOptions(d.mountinfo); err == nil && !slices.Contains(options, favorDynMods) {
		err = errors.ErrUnsupported
	}
	return err
}

// unifiedOptions finds where cgroup2 is mounted, and with which options of its own; errors.ErrUnsupported
// when it is not.
func unifiedOptions(mountinfo string) (dir string, options []string, err error) {
	f, err := os.Open(mountinfo)
	if err != nil {
		return "", nil, fmt.Errorf("find the mount of cgroup2: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		before, after, _ := strings.Cut(lines.Text(), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if len(left) < 6 || len(right) < 3 || right[0] != "cgroup2" {
			continue
		}
		for _, o := range strings.Split(right[2], ",") {
			if o != "rw" && o != "ro" {
				options = append(options, o)
			}
		}
		return left[4], options, nil
	}
	if err := lines.Err(); err != nil {
		return "", nil, fmt.Errorf("read %s: %w", mountinfo, err)
	}
	return "", nil, fmt.Errorf("find the mount of cgroup2: %w", errors.ErrUnsupported)
}

// reconfigure gives the file system at dir these options; those that are not among them end. Mounts of
// it keep theirs.
func reconfigure(dir string, options []string) error {
	fd, err := unix.Fspick(unix.AT_FDCWD, dir, unix.FSPICK_CLOEXEC)
	if err != nil {
		return unsupported(err)
	}
	defer func() { _ = unix.Close(fd) }()
	for _, o := range options {
		if err := unix.FsconfigSetFlag(fd, o); err != nil {
			return unsupported(fmt.Errorf("option %s: %w", o, err))
		}
	}
	return unsupported(unix.FsconfigReconfigure(fd))
}

// unsupported marks what a kernel says that does not know the option, or does not let us.
func unsupported(err error) error {
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) {
		return errors.Join(errors.ErrUnsupported, err)
	}
	return err
}
