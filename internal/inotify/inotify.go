package inotify

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Kinds of changes that Watch can tell of, to be combined.
const (
	// Entries come to or go from the directory.
	Entries uint32 = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO
	// Contents of files are written to the end, or their rights change.
	Contents uint32 = unix.IN_CLOSE_WRITE | unix.IN_ATTRIB
	// Self: the directory itself goes.
	Self uint32 = unix.IN_DELETE_SELF | unix.IN_MOVE_SELF
)

// Watch gives a file that can be read whenever one of the kinds of changes
// happens in the directory. Closing it ends a read.
func Watch(dir string, kinds uint32) (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make inotify instance: %w", err)
	}
	if _, err := unix.InotifyAddWatch(fd, dir, kinds|unix.IN_ONLYDIR); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("watch %s: %w", dir, err)
	}
	return os.NewFile(uintptr(fd), "inotify "+dir), nil
}
