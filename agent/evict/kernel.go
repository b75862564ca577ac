package evict

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// trigger fires when tasks waited for memory for 0.2 s of any 2 s. Windows of whole multiples of 2 s
// need no capability (Linux 6.5).
const trigger = "some 200000 2000000\x00"

// watchPressure wakes the loop when tasks begin to wait for memory. Without PSI it does nothing.
func (e *Evictor) watchPressure(ctx context.Context) {
	if e.cfg.Pressure == "-" {
		return
	}
	fd, err := unix.Open(e.cfg.Pressure, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(fd)
		_, err = unix.Write(fd, []byte(trigger))
	}
	if err != nil {
		e.deps.Log.Info("no pressure events: memory is looked at every second", "file", e.cfg.Pressure, "err", err)
		return
	}
	r, w, err := os.Pipe()
	if err != nil {
		e.deps.Log.Warn("watch memory pressure: memory is looked at every second", "err", err)
		return
	}
	defer r.Close()
	defer context.AfterFunc(ctx, func() { _ = w.Close() })()
	for {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLPRI}, {Fd: int32(r.Fd()), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
			e.deps.Log.Warn("watch memory pressure: memory is looked at every second", "err", err)
			return
		}
		if ctx.Err() != nil || fds[1].Revents != 0 || fds[0].Revents&unix.POLLERR != 0 {
			return
		}
		if fds[0].Revents&unix.POLLPRI != 0 {
			select {
			case e.wake <- struct{}{}:
			default:
			}
		}
	}
}

// watchKernel tells of processes that the kernel killed because the whole machine was out of memory.
func (e *Evictor) watchKernel(ctx context.Context) {
	if e.cfg.Kmsg == "-" {
		return
	}
	fd, err := unix.Open(e.cfg.Kmsg, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		_, err = unix.Seek(fd, 0, unix.SEEK_END) // what was killed before is old news
	}
	if err != nil {
		e.deps.Log.Info("no kernel log: kills for lack of memory are not told as events of the node", "file", e.cfg.Kmsg, "err", err)
		return
	}
	f := os.NewFile(uintptr(fd), e.cfg.Kmsg)
	defer f.Close()
	defer context.AfterFunc(ctx, func() { _ = f.Close() })()
	e.readKernel(f)
}

// readKernel reads the kernel log, a record with each read, until there is no more.
func (e *Evictor) readKernel(log io.Reader) {
	buf := make([]byte, 8<<10) // a record of the kernel is shorter
	for {
		n, err := log.Read(buf)
		switch {
		case err == nil:
		case errors.Is(err, unix.EPIPE): // records were overwritten before they were read
			continue
		default:
			return // the file was closed, or the kernel has no more to say
		}
		if victim, pid, ok := parseOOM(string(buf[:n])); ok {
			e.deps.Events.Event(e.node(), corev1.EventTypeWarning, "SystemOOM", fmt.Sprintf("System OOM encountered, victim process: %s, pid: %s", victim, pid))
		}
	}
}

// parseOOM reads a record of the kernel log (Linux 5.0 and later), like "6,1,2,-;oom-kill:constraint=
// CONSTRAINT_NONE,nodemask=(null),cpuset=x,mems_allowed=0,global_oom,task_memcg=/x,task=name,pid=7,uid=0".
// Kills for the limit of a cgroup are the container's affair.
func parseOOM(record string) (victim, pid string, ok bool) {
	_, text, _ := strings.Cut(record, ";")
	text, _, _ = strings.Cut(text, "\n")
	rest, is := strings.CutPrefix(text, "oom-kill:")
	if !is || !strings.Contains(rest, ",global_oom,") {
		return "", "", false
	}
	// The name of a task may contain anything, so it is what stands between ",task=" and the last ",pid=".
	_, rest, found := strings.Cut(rest, ",task=")
	i := strings.LastIndex(rest, ",pid=")
	if !found || i < 0 {
		return "", "", false
	}
	pid, _, _ = strings.Cut(rest[i+len(",pid="):], ",")
	return rest[:i], pid, true
}
