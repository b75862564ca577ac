package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// WritePIDFile writes the pid, replacing an older file at once.
func WritePIDFile(path string, pid int) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make directory for pid file: %w", err)
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, []byte(strconv.Itoa(pid)+"\n"), 0o644); err != nil {
		return fmt.Errorf("write pid file: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write pid file: %w", err)
	}
	return nil
}

// Process is a running process held by a pidfd: a later process with the same
// pid is never mistaken for it.
type Process struct {
	PID int
	fd  int
}

// Find gives the process a pid file names, or nil when the file does not
// exist or its process is gone or is another program. It is recognised when
// all words appear among its command line arguments.
func Find(pidFile string, words ...string) (*Process, error) {
	data, err := os.ReadFile(pidFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read pid file: %w", err)
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(data)))
	if err != nil || pid <= 1 {
		return nil, nil // half-written or foreign: nobody to find
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, nil
	}
	// The command line is read after the pidfd is held, so both speak of the same process.
	args := Args(pid)
	for _, w := range words {
		if !slices.Contains(args, w) {
			_ = unix.Close(fd)
			return nil, nil
		}
	}
	return &Process{PID: pid, fd: fd}, nil
}

// Args gives the command line of a process, with the program by its base
// name; nil when the process is gone.
func Args(pid int) []string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || len(data) == 0 {
		return nil
	}
	args := strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00")
	args[0] = filepath.Base(args[0])
	return args
}

// Signal sends a signal; a process that has ended is no error.
func (p *Process) Signal(s unix.Signal) error {
	if err := unix.PidfdSendSignal(p.fd, s, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("send %s to pid %d: %w", s, p.PID, err)
	}
	return nil
}

// Wait blocks until the process has ended or ctx is done.
func (p *Process) Wait(ctx context.Context) error {
	for {
		fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
		// A pidfd becomes readable at exit; the bound is how late a cancelled ctx is noticed.
		n, err := unix.Poll(fds, 100)
		if n > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for pid %d: %w", p.PID, err)
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("wait for pid %d: %w", p.PID, err)
		}
	}
}

// Stop asks the process to end, and kills it when it has not after grace.
// It reports whether it had to be killed.
func (p *Process) Stop(ctx context.Context, grace time.Duration) (killed bool, err error) {
	if err := p.Signal(unix.SIGTERM); err != nil {
		return false, err
	}
	patient, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	if p.Wait(patient) == nil {
		return false, nil
	}
	if err := p.Signal(unix.SIGKILL); err != nil {
		return true, err
	}
	// The kernel needs a moment even for a killed process.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return true, p.Wait(last)
}

// Close releases the handle; the process goes on.
func (p *Process) Close() { _ = unix.Close(p.fd) }

// lockWait is how long a killed owner may take to vanish.
const lockWait = 3 * time.Second

// Lock takes an exclusive lock on a file for as long as this process lives.
// When somebody else has it, the error names who wrote its pid there.
func Lock(path string) (release func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make directory for lock: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	for deadline := time.Now().Add(lockWait); ; time.Sleep(20 * time.Millisecond) {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			break
		}
		owner, _ := os.ReadFile(path)
		pid, _ := strconv.Atoi(string(bytes.TrimSpace(owner)))
		// An owner without a command line was killed and is being torn down.
		if dying := Args(pid) == nil; dying && time.Now().Before(deadline) {
			continue
		}
		_ = f.Close()
		return nil, fmt.Errorf("another nodelet (pid %d) runs on %s: stop it first with 'nodelet down', or use another --run-dir and --data-dir",
			pid, filepath.Dir(path))
	}
	_ = f.Truncate(0)
	_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return func() { _ = f.Close() }, nil
}
