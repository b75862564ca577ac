package ebpf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// trialPrefix begins the names of sandboxes' cgroups.
const trialPrefix = "nodelet-trial-"

// ownCgroup is the directory of the cgroup2 that this process is in.
func ownCgroup() (string, error) {
	root, err := cgroupRoot()
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", fmt.Errorf("find the cgroup of this process: %w", err)
	}
	_, home, _ := strings.Cut("\n"+string(text), "\n0::")
	home, _, _ = strings.Cut(home, "\n")
	return filepath.Join(root, home), nil
}

// lockTrials keeps others from taking a cgroup for a left one that its process
// is about to enter. The kernel unlocks for a process that was killed.
func lockTrials(root string) (unlock func(), err error) {
	dir, err := os.Open(root)
	if err != nil {
		return nil, fmt.Errorf("open cgroup: %w", err)
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock cgroup %s: %w", root, err), dir.Close())
	}
	return func() { _ = dir.Close() }, nil
}

// markUsed locks the directory of a sandbox until the file is closed.
func markUsed(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open cgroup: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock cgroup %s: %w", dir, err), f.Close())
	}
	return f, nil
}

// isUsed tells whether somebody has marked a cgroup.
func isUsed(dir string) bool {
	f, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// Trials lists what sandboxes have left whose process was killed: cgroups that
// nobody has marked and without a process. Others are trials that run.
func Trials() (left []string, err error) {
	root, err := cgroupRoot()
	if err != nil {
		return nil, nil //nolint:nilerr // without a cgroup2 tree there can be none
	}
	dirs, err := trialsBelow(root)
	for _, dir := range dirs {
		if empty, emptyErr := isEmpty(dir); emptyErr != nil {
			err = errors.Join(err, emptyErr)
		} else if empty {
			left = append(left, "cgroup "+dir)
		}
	}
	return left, err
}

// RemoveTrials removes them.
func RemoveTrials() error {
	root, err := cgroupRoot()
	if err != nil {
		return nil //nolint:nilerr // as above
	}
	unlock, err := lockTrials(root)
	if err != nil {
		return err
	}
	defer unlock()
	_, err = removeTrials(root)
	return err
}

func trialsBelow(root string) ([]string, error) {
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, fmt.Errorf("list cgroups: %w", err)
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), trialPrefix) {
			out = append(out, filepath.Join(root, e.Name()))
		}
	}
	return out, nil
}

// isEmpty tells whether no process is in a cgroup or below it, and none uses it
// from outside; one that goes meanwhile is not.
func isEmpty(dir string) (bool, error) {
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.events"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look whether a cgroup is in use: %w", err)
	}
	return strings.Contains(string(text), "populated 0") && !isUsed(dir), nil
}

// removeTrials removes the cgroups of sandboxes that no process is in. The
// caller has the lock: so none can be entered between the look and the removal.
func removeTrials(root string) (removed []string, err error) {
	dirs, err := trialsBelow(root)
	if err != nil {
		return nil, err
	}
	for _, dir := range dirs {
		// Looked at as a whole: of one at work, the part below may be empty.
		if empty, err := isEmpty(dir); err != nil {
			return removed, err
		} else if !empty {
			continue
		}
		err := os.Remove(filepath.Join(dir, "node"))
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			err = os.Remove(dir)
		}
		switch {
		case err == nil:
			removed = append(removed, dir)
		case !errors.Is(err, unix.EBUSY) && !errors.Is(err, fs.ErrNotExist):
			return removed, fmt.Errorf("remove the cgroup of a trial: %w", err)
		}
	}
	return removed, nil
}
