package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"nodelet/internal/netns"
)

// Down ends a lab and removes every trace of it. It may be repeated, and it
// works for labs whose maker was killed half-way. No lab of that id is fine.
func Down(id string) error {
	l, err := Open(id)
	if errors.Is(err, os.ErrNotExist) {
		l, err = &Lab{ID: id}, nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range l.Nodes {
		errs = append(errs, n.end())
	}
	for _, n := range l.Nodes {
		errs = append(errs, removeCgroups(n.Cgroup))
	}
	errs = append(errs, netns.Delete(l.wire()))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("end lab %s: %w", id, err)
	}
	errs = append(errs, os.RemoveAll(l.DataDir()))
	errs = append(errs, locked(func() error {
		return errors.Join(os.RemoveAll(l.stateDir()), removeDirs())
	}))
	return errors.Join(errs...)
}

// ended bounds how long the kernel may take to end a node's processes.
const ended = 30 * time.Second

// end kills the holder; the kernel kills everything else in the node.
func (n Node) end() error {
	if !n.Running() {
		return nil
	}
	fd, err := unix.PidfdOpen(n.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("end %s: %w", n.Name, err)
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("end %s: %w", n.Name, err)
	}
	// A holder that is our own child stays a zombie until it is waited for.
	_, _ = unix.Wait4(n.PID, nil, unix.WNOHANG, nil)
	for deadline := time.Now().Add(ended); time.Now().Before(deadline); {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if ready, err := unix.Poll(poll, 1000); ready > 0 && err == nil {
			_, _ = unix.Wait4(n.PID, nil, 0, nil)
			return nil
		}
	}
	return fmt.Errorf("end %s: process %d is still there after %s (stuck in the kernel?)", n.Name, n.PID, ended)
}

// Running says whether the node's holder lives.
func (n Node) Running() bool {
	start, err := startTime(n.PID)
	return err == nil && start == n.Start
}

// startTime is field 22 of /proc/PID/stat; together with the number it names a
// process for good.
func startTime(pid int) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", fmt.Errorf("look up process %d: %w", pid, err)
	}
	// The name, field 2, is in parentheses and may hold anything.
	_, rest, _ := strings.Cut(string(text[strings.LastIndexByte(string(text), ')')+1:]), " ")
	fields := strings.Fields(rest)
	const afterName = 22 - 3
	if len(fields) <= afterName {
		return "", fmt.Errorf("look up process %d: unreadable stat", pid)
	}
	return fields[afterName], nil
}

// removeCgroups removes a node's cgroup from every hierarchy, the innermost
// first. Its processes are dead by now.
func removeCgroups(cgroup string) error {
	if !strings.HasPrefix(cgroup, "/nodelet-lab-") {
		return fmt.Errorf("refuse to remove cgroup %q", cgroup)
	}
	tops, err := filepath.Glob("/sys/fs/cgroup/*" + cgroup)
	if err != nil {
		return err
	}
	var errs []error
	for _, top := range append(tops, "/sys/fs/cgroup"+cgroup) {
		var dirs []string
		_ = filepath.WalkDir(top, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		for _, dir := range slices.Backward(dirs) {
			errs = append(errs, removeCgroup(dir))
		}
	}
	return errors.Join(errs...)
}

// removeCgroup waits a little: the kernel empties a cgroup some time after its
// last process has ended.
func removeCgroup(dir string) error {
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Rmdir(dir)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("remove cgroup %s: %w", dir, err)
		}
	}
}
