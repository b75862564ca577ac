package owner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// fileBits and dirBits are added to the modes of files and of directories:
	// the group may read and write, enter, and new files are the group's too.
	fileBits = 0o660
	dirBits  = fileBits | 0o110 | unix.S_ISGID
)

// Change says to whom a tree goes.
type Change struct {
	GID int
	// OnlyOnMismatch: a root that is right is taken as proof that the rest is.
	OnlyOnMismatch bool
	// Slow is told, half a minute after the begin and then each minute, what
	// takes so long; may be nil.
	Slow func(message string)
}

// Apply gives everything below dir, and then dir itself, to the group.
func Apply(ctx context.Context, dir string, c Change) error {
	gid := c.GID
	root, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("set group of %s: %w", dir, err)
	}
	defer unix.Close(root)
	var st unix.Stat_t
	if err := unix.Fstat(root, &st); err != nil {
		return fmt.Errorf("set group of %s: %w", dir, err)
	}
	if c.OnlyOnMismatch && int(st.Gid) == gid && st.Mode&dirBits == dirBits {
		return nil
	}
	w := walker{ctx: ctx, gid: gid, dev: st.Dev, progress: newProgress(dir, c.Slow, time.Now())}
	if err := w.below(root); err != nil {
		return fmt.Errorf("set group of %s: %w", dir, err)
	}
	if err := w.change(root, &st); err != nil {
		return fmt.Errorf("set group of %s: %w", dir, err)
	}
	return nil
}

type walker struct {
	ctx context.Context
	gid int
	dev uint64
	*progress
}

// below changes what is in an open directory, which stays open.
func (w walker) below(fd int) error {
	again, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	dir := os.NewFile(uintptr(again), "directory")
	defer dir.Close()
	for {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		names, err := dir.Readdirnames(1024)
		for _, name := range names {
			if err := w.entry(int(dir.Fd()), name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (w walker) entry(parent int, name string) error {
	fd, err := unix.Openat(parent, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Dev != w.dev {
		return nil // something else is mounted there
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if err := w.below(fd); err != nil {
			return err
		}
	}
	w.passed(time.Now())
	return w.change(fd, &st)
}

// change sets group and mode of what fd stands for; the mode of a link means nothing.
func (w walker) change(fd int, st *unix.Stat_t) error {
	if int(st.Gid) != w.gid {
		if err := unix.Fchownat(fd, "", -1, w.gid, unix.AT_EMPTY_PATH); err != nil {
			return err
		}
	}
	bits := uint32(fileBits)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		return nil
	case unix.S_IFDIR:
		bits = dirBits
	}
	// A change of owner may have cleared the set-id bits, so the mode is always written then.
	if st.Mode&bits == bits && int(st.Gid) == w.gid {
		return nil
	}
	return unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), st.Mode&0o7777|bits)
}
