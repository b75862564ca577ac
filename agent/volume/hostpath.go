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

	"nodelet/agent/volume/disk"
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
	disk string // what a local volume's device holds; empty where it is a directory
	err  error
}

// check makes sure that a hostPath is what its type says, and creates it for the types that ask for that.
func (h *hostChecks) check(ctx context.Context, vol *volumeplan.Volume) error {
	if vol.Type == corev1.HostPathUnset {
		return nil
	}
	c := h.start(string(vol.Type)+" "+vol.Path, func() (string, error) { return "", checkHostPath(vol.Path, vol.Type) })
	if !c.over(ctx) {
		return fmt.Errorf("hostPath %s has not answered for %s: is its file system reachable?", vol.Path, hostPatience)
	}
	return c.err
}

// local looks at a local volume: it gives the type of its file system if it is
// a device, after that was checked or made, and nothing if it is a directory.
func (h *hostChecks) local(ctx context.Context, vol *volumeplan.Volume) (string, error) {
	path, wanted := vol.Path, vol.Disk.FSType
	// Not with the context of this pod: others wait for the same device, and a formatter is not to be broken off.
	c := h.start("local "+path, func() (string, error) { return checkLocal(path, wanted) })
	if !c.over(ctx) {
		return "", fmt.Errorf("local volume %s is not ready after %s: its file system is being checked or made, or does not answer", path, hostPatience)
	}
	return c.disk, c.err
}

// over waits for the end of the check, as long as is worth it.
func (c *hostCheck) over(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, hostPatience)
	defer cancel()
	select {
	case <-c.done:
		return true
	case <-ctx.Done():
		return false
	}
}

// start runs a check, once at a time for a key.
func (h *hostChecks) start(key string, check func() (string, error)) *hostCheck {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c := h.running[key]; c != nil {
		return c
	}
	if h.running == nil {
		h.running = map[string]*hostCheck{}
	}
	c := &hostCheck{done: make(chan struct{})}
	h.running[key] = c
	go func() {
		c.disk, c.err = check()
		h.mu.Lock()
		delete(h.running, key)
		h.mu.Unlock()
		close(c.done)
	}()
	return c
}

func checkLocal(path, wanted string) (string, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return "", fmt.Errorf("look at local volume: %w", err)
	case info.IsDir():
		return "", nil
	case info.Mode()&fs.ModeDevice == 0 || info.Mode()&fs.ModeCharDevice != 0:
		return "", fmt.Errorf("local volume %s is neither a directory nor a block device", path)
	}
	return disk.Prepare(context.Background(), path, wanted)
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
