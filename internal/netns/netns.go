package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// ErrNotFound says that nothing is bound at a path: the namespace is gone.
var ErrNotFound = errors.New("network namespace not found")

// threadPath names the namespace of the calling thread, not of the process.
const threadPath = "/proc/thread-self/ns/net"

// NS is an open network namespace. It stays alive as long as it is open, even
// when its last process and its last bind mount are gone.
type NS struct {
	file *os.File
	path string
}

// Open opens the namespace bound at path. The error wraps ErrNotFound when
// there is none: no file, or a file that is left over from an unmounted bind.
func Open(path string) (*NS, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("open network namespace %s: %w", path, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("open network namespace %s: %w", path, err)
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("open network namespace %s: statfs: %w", path, err)
	}
	// Before Linux 3.19 namespace files lived on procfs; nodelet needs more.
	if st.Type != unix.NSFS_MAGIC {
		_ = f.Close()
		return nil, fmt.Errorf("open network namespace %s: nothing is mounted there: %w", path, ErrNotFound)
	}
	return &NS{file: f, path: path}, nil
}

// Current opens the namespace of the calling goroutine's thread.
func Current() (*NS, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return Open(threadPath)
}

// OfProcess opens the namespace of a process.
func OfProcess(pid int) (*NS, error) {
	return Open(fmt.Sprintf("/proc/%d/ns/net", pid))
}

// Fd is the open file descriptor; it is valid until Close.
func (n *NS) Fd() int { return int(n.file.Fd()) }

// String is the path the namespace was opened by.
func (n *NS) String() string { return n.path }

// Close lets the namespace go.
func (n *NS) Close() error { return n.file.Close() }

// ID identifies a namespace on this machine for as long as it lives.
type ID struct{ Dev, Inode uint64 }

// ID reads the identity of the namespace.
func (n *NS) ID() (ID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(n.Fd(), &st); err != nil {
		return ID{}, fmt.Errorf("stat network namespace %s: %w", n.path, err)
	}
	return ID{Dev: st.Dev, Inode: st.Ino}, nil
}

// Do runs fn on an OS thread that is inside the namespace. Goroutines that fn
// starts run outside, on other threads. When fn ends its goroutine
// (runtime.Goexit, as a failing test does), the caller's ends as well.
func (n *NS) Do(fn func() error) error {
	result := make(chan error, 1)
	go func() {
		defer close(result)
		result <- n.doLocked(fn)
	}()
	err, returned := <-result
	if !returned {
		runtime.Goexit()
	}
	return err
}

// doLocked leaves the thread locked when it cannot return to where it came
// from: the runtime then ends the thread together with the goroutine.
func (n *NS) doLocked(fn func() error) error {
	runtime.LockOSThread()
	home, err := Open(threadPath)
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer home.Close()
	if err := unix.Setns(n.Fd(), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network namespace %s (needs root): %w", n.path, err)
	}
	fnErr := fn()
	if err := unix.Setns(home.Fd(), unix.CLONE_NEWNET); err == nil {
		runtime.UnlockOSThread()
	}
	return fnErr
}

// New makes a namespace that lives as long as the returned handle is open.
func New() (*NS, error) {
	return unshared(func() (*NS, error) { return Open(threadPath) })
}

// Create makes a namespace and binds it at path, whose directory is created
// when missing. Nothing may be there yet.
func Create(path string) (*NS, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("create network namespace %s: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return nil, fmt.Errorf("create network namespace %s: %w", path, err)
	}
	_ = f.Close()
	ns, err := unshared(func() (*NS, error) {
		if err := unix.Mount(threadPath, path, "", unix.MS_BIND, ""); err != nil {
			return nil, fmt.Errorf("bind network namespace at %s: %w", path, err)
		}
		return Open(path)
	})
	if err != nil {
		return nil, errors.Join(err, Delete(path))
	}
	return ns, nil
}

// unshared unshares a thread's network namespace and lets keep take hold of it.
// The thread is never given back: it ends with its goroutine.
func unshared(keep func() (*NS, error)) (*NS, error) {
	type made struct {
		ns  *NS
		err error
	}
	result := make(chan made, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			result <- made{nil, fmt.Errorf("unshare network namespace (needs root): %w", err)}
			return
		}
		if err := Disinherit(); err != nil {
			result <- made{nil, err}
			return
		}
		ns, err := keep()
		result <- made{ns, err}
	}()
	m := <-result
	return m.ns, m.err
}

// Delete unbinds the namespace at path and removes the file. It is no error
// when there is none. The kernel destroys the namespace, and the links in it,
// some milliseconds later, when nobody holds it any more.
func Delete(path string) error {
	err := unix.Unmount(path, unix.MNT_DETACH)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unbind network namespace %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove network namespace file %s: %w", path, err)
	}
	return nil
}

// Exists says whether a namespace is bound at path.
func Exists(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.NSFS_MAGIC
}
