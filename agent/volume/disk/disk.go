package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"nodelet/agent/volume/mount"
)

// defaultType is what a device without a file system gets where nobody says which.
const defaultType = "ext4"

// Exit codes of blkid and fsck.
const (
	blkidNothing  = 2 // there is nothing that it knows
	fsckUnmended  = 4 // errors are left
	maxTypeLength = 16
)

// Prepare makes sure that there is a file system on the device, checks it when
// it is not in use, and tells its type. wanted is the type that the device shall
// have; empty means what there is, or else ext4. One call at a time for a device.
func Prepare(ctx context.Context, device, wanted string) (string, error) {
	if !typeName(wanted) && wanted != "" {
		return "", fmt.Errorf("%q is not the name of a file system", wanted)
	}
	have, mounted, err := inUse(device)
	if err == nil && !mounted {
		have, err = probe(ctx, device)
	}
	switch {
	case err != nil:
		return "", err
	case have == "":
		return format(ctx, device, wanted)
	case wanted != "" && have != wanted:
		return "", fmt.Errorf("device %s has file system %s, and %s is wanted: nothing was changed", device, have, wanted)
	case mounted:
		return have, nil
	}
	return have, check(ctx, device)
}

// inUse tells whether the device's file system is mounted, and its type.
func inUse(device string) (fsType string, mounted bool, err error) {
	var st unix.Stat_t
	if err := unix.Stat(device, &st); err != nil {
		return "", false, fmt.Errorf("look at device %s: %w", device, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return "", false, fmt.Errorf("%s is not a block device", device)
	}
	return mount.OfDevice(unix.Major(st.Rdev), unix.Minor(st.Rdev))
}

// probe tells the type of the file system on a device, empty for nothing at all.
func probe(ctx context.Context, device string) (string, error) {
	out, err := run(ctx, "blkid", "-p", "-s", "TYPE", "-s", "PTTYPE", "-o", "export", device)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == blkidNothing {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("find out what is on device %s: %w", device, err)
	}
	var table string
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "TYPE":
			return value, nil
		case "PTTYPE":
			table = value
		}
	}
	if table != "" {
		return "", fmt.Errorf("device %s has partitions (%s) and no file system of its own: name one of them, or clear it with wipefs", device, table)
	}
	return "", nil
}

func format(ctx context.Context, device, fsType string) (string, error) {
	if fsType == "" {
		fsType = defaultType
	}
	args := []string{device}
	switch fsType {
	case "ext3", "ext4": // no blocks set aside for root, and no question although it is a whole disk
		args = []string{"-F", "-m0", device}
	case "xfs":
		args = []string{"-f", device}
	}
	if _, err := run(ctx, "mkfs."+fsType, args...); err != nil {
		return "", fmt.Errorf("make file system %s on device %s: %w", fsType, device, err)
	}
	return fsType, nil
}

// check mends what can be mended without a question. A checker that is missing
// or has none for this type is no obstacle: the kernel decides at the mount.
func check(ctx context.Context, device string) error {
	_, err := run(ctx, "fsck", "-a", device)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode()&fsckUnmended != 0 {
		return fmt.Errorf("check file system on device %s: it has errors that need a decision: run fsck by hand: %w", device, err)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return nil
}

// run gives what a program said on its standard output.
func run(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	// Without Pdeathsig, a formatter of a killed daemon would go on below the next one's. The kernel means the
	// thread by "parent", so that stays this goroutine's own until the program has ended.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil && said.Len() > 0 {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(said.String()))
	}
	return string(out), err
}

// typeName reports whether s can name a file system and be a part of a program's name.
func typeName(s string) bool {
	if s == "" || len(s) > maxTypeLength {
		return false
	}
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}
