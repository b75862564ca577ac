package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"nodelet/agent/volume/volumeplan"
)

// hostPatience is how long a look at a hostPath may take. Local disks answer
// in milliseconds; a dead network file system never does.
const hostPatience = 10 * time.Second

// hostChecks runs the checks of hostPath volumes. A check that hangs in the
// kernel cannot be ended; it is awaited again by the next try, not doubled.
type hostChecks struct {
	mu      sync.Mutex
	running map[string]*hostCheck
}

type hostCheck struct {
	done chan struct{}
	err  error
}

// check makes sure that a hostPath is what its type says, and creates it for the types that ask for that.
func (h *hostChecks) check(ctx context.Context, vol *volumeplan.Volume) error {
	if vol.Type == corev1.HostPathUnset {
		return nil
	}
	c := h.start(vol.Path, vol.Type)
	ctx, cancel := context.WithTimeout(ctx, hostPatience)
	defer cancel()
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return fmt.Errorf("hostPath %s has not answered for %s: is its file system reachable?", vol.Path, hostPatience)
	}
}

func (h *hostChecks) start(path string, kind corev1.HostPathType) *hostCheck {
	h.mu.Lock()
	defer h.mu.Unlock()
	key := string(kind) + " " + path
	if c := h.running[key]; c != nil {
		return c
	}
	if h.running == nil {
		h.running = map[string]*hostCheck{}
	}
	c := &hostCheck{done: make(chan struct{})}
	h.running[key] = c
	go func() {
		c.err = checkHostPath(path, kind)
		h.mu.Lock()
		delete(h.running, key)
		h.mu.Unlock()
		close(c.done)
	}()
	return c
}

// checkHostPath follows links, as the mount into the container will.
func checkHostPath(path string, kind corev1.HostPathType) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		switch kind {
		case corev1.HostPathDirectoryOrCreate:
			if err := os.MkdirAll(path, 0o755); err != nil {
				return fmt.Errorf("create hostPath: %w", err)
			}
			return nil
		case corev1.HostPathFileOrCreate:
			f, err := os.OpenFile(path, os.O_CREATE, 0o644)
			if err != nil {
				return fmt.Errorf("create hostPath: %w", err)
			}
			return f.Close()
		}
	}
	if err != nil {
		return fmt.Errorf("hostPath type check failed: %w", err)
	}
	mode := info.Mode()
	var ok bool
	var what string
	switch kind {
	case corev1.HostPathDirectory, corev1.HostPathDirectoryOrCreate:
		ok, what = mode.IsDir(), "a directory"
	case corev1.HostPathFile, corev1.HostPathFileOrCreate:
		ok, what = mode.IsRegular(), "a file"
	case corev1.HostPathSocket:
		ok, what = mode&fs.ModeSocket != 0, "a socket file"
	case corev1.HostPathCharDev:
		ok, what = mode&fs.ModeCharDevice != 0, "a character device"
	case corev1.HostPathBlockDev:
		ok, what = mode&fs.ModeDevice != 0 && mode&fs.ModeCharDevice == 0, "a block device"
	default:
		return fmt.Errorf("hostPath type %q is not known", kind)
	}
	if !ok {
		return fmt.Errorf("hostPath type check failed: %s is not %s", path, what)
	}
	return nil
}
