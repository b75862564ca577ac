package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// The nodes of all labs mount over the same directories of the host. The kernel
// takes a mount away in every namespace when its directory is removed in one,
// so the directories that labs made go with the last lab, whoever made them.

// madeFile lists them.
var madeFile = filepath.Join(stateRoot, "made")

// locked runs do while no other lab begins or ends.
func locked(do func() error) error {
	for {
		if err := os.MkdirAll(stateRoot, 0o755); err != nil {
			return err
		}
		d, err := os.Open(stateRoot)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the last lab has just gone
		}
		if err != nil {
			return err
		}
		if err := unix.Flock(int(d.Fd()), unix.LOCK_EX); err != nil {
			return errors.Join(fmt.Errorf("lock %s: %w", stateRoot, err), d.Close())
		}
		ours, err := d.Stat()
		now, pathErr := os.Stat(stateRoot)
		if err == nil && (pathErr != nil || !os.SameFile(ours, now)) {
			_ = d.Close() // likewise, while this waited
			continue
		}
		return errors.Join(err, do(), d.Close())
	}
}

// makeDirs makes the directories that are missing, and notes them first.
func makeDirs(dirs []string) error {
	for _, dir := range dirs {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		f, err := os.OpenFile(madeFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(f, dir)
		if err := errors.Join(err, f.Close(), os.MkdirAll(dir, 0o755)); err != nil {
			return err
		}
	}
	return nil
}

// removeDirs removes what labs made and the directories of all labs, unless there is another lab.
func removeDirs() error {
	entries, err := os.ReadDir(stateRoot)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			return nil
		}
	}
	text, err := os.ReadFile(madeFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	made := strings.Fields(string(text))
	for i := range made {
		_ = os.Remove(made[len(made)-1-i]) // only when empty: somebody may use it by now
	}
	for _, path := range []string{madeFile, dataRoot, stateRoot} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
