package mount

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// ErrMounted says that a tree holds a mount and was therefore not removed.
var ErrMounted = errors.New("something is mounted there")

// maxDepth bounds the open directories of a removal; deeper ones, which only
// an adversary makes, are moved up first.
const maxDepth = 64

// resolve forbids everything that could lead a name out of its directory.
const resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// RemoveTree removes path and all below it. It stops with ErrMounted at the
// first mount and removes nothing behind it. A path that is not there is no error.
func RemoveTree(path string) error {
	parent, err := os.Open(filepath.Dir(path))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	defer parent.Close()
	r := remover{}
	if err := r.entry(parent, filepath.Base(path), 0); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}

type remover struct {
	top   *os.File // where too deep directories are moved to
	moved int
}

// entry removes one name of dir, whatever it is.
func (r *remover) entry(dir *os.File, name string, depth int) error {
	err := unix.Unlinkat(int(dir.Fd()), name, 0)
	switch {
	case err == nil || errors.Is(err, unix.ENOENT):
		return nil
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%s: %w", name, ErrMounted)
	case !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM):
		return fmt.Errorf("%s: %w", name, err)
	}
	if depth > maxDepth {
		r.moved++
		return unix.Renameat(int(dir.Fd()), name, int(r.top.Fd()), ".too-deep-"+strconv.Itoa(r.moved))
	}
	if errDir := r.directory(dir, name, depth); errors.Is(errDir, unix.ENOTDIR) {
		return fmt.Errorf("%s: %w", name, err) // a file that may not be removed, such as an immutable one
	} else if errDir != nil {
		return errDir
	}
	err = unix.Unlinkat(int(dir.Fd()), name, unix.AT_REMOVEDIR)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%s: %w", name, ErrMounted)
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// directory empties the directory of that name.
func (r *remover) directory(parent *os.File, name string, depth int) error {
	fd, err := unix.Openat2(int(parent.Fd()), name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: resolve,
	})
	if errors.Is(err, unix.EXDEV) {
		return fmt.Errorf("%s: %w", name, ErrMounted)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	if r.top == nil {
		r.top = dir
	}
	for {
		// From the start each time: entries go away, and moved ones come to the top.
		if _, err := dir.Seek(0, 0); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		names, err := dir.Readdirnames(1024)
		if len(names) == 0 {
			if err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		}
		for _, child := range names {
			if err := r.entry(dir, child, depth+1); err != nil {
				return fmt.Errorf("%s/%w", name, err)
			}
		}
	}
}
