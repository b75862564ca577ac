package file

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"nodelet/cni/ipam"
)

const (
	stateName = "attachments"
	lockName  = "lock"
	bootID    = "/proc/sys/kernel/random/boot_id"
)

// A writer holds the lock for a millisecond, or for some with host ports.
// Whoever waits longer than lockTimeout waits for a process that is stopped.
const (
	lockTimeout = 10 * time.Second
	lockPause   = time.Millisecond
)

// The file is written anew when it has more lines than these allow.
const (
	historyFactor = 2
	historyLines  = 64
)

// Dir is the state directory of one node.
type Dir struct {
	// Path is created when missing, readable by root only.
	Path string
	// Seed gives the leases that the kernel knows of; it is asked when the file
	// of this boot is missing or damaged. May be nil.
	Seed func() ([]ipam.Lease, error)
	// Damaged is told of a file that was set aside; may be nil.
	Damaged func(path string, err error)
}

// View reads the state without taking the lock. Before the first Update it is empty.
func (d Dir) View() (ipam.State, error) {
	boot, err := readBootID()
	if err != nil {
		return ipam.State{}, err
	}
	s, _, err := d.read(boot)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, ipam.ErrFormat) {
		return ipam.State{Boot: boot}, nil
	}
	return s, err
}

// Update replaces the state by what change makes of it, while nobody else
// can. An error of change leaves the state as it was. While change runs, the
// lock also protects what goes with the state (the host-port rules).
func (d Dir) Update(change func(ipam.State) (ipam.State, error)) error {
	return d.UpdateThen(change, func(ipam.State) error { return nil })
}

// UpdateThen does as Update, and runs then on the written state before the
// lock is given back.
func (d Dir) UpdateThen(change func(ipam.State) (ipam.State, error), then func(ipam.State) error) error {
	if err := os.MkdirAll(d.Path, 0o700); err != nil {
		return fmt.Errorf("create network state directory: %w", err)
	}
	unlock, err := d.lock()
	if err != nil {
		return err
	}
	defer unlock()
	boot, err := readBootID()
	if err != nil {
		return err
	}
	old, disk, err := d.load(boot)
	if err != nil {
		return err
	}
	next, err := change(old)
	if err != nil {
		return err
	}
	next.Boot = boot
	if err := d.save(disk, old, next); err != nil {
		return err
	}
	return then(next)
}

// onDisk is what the file of this boot holds; whole is 0 when there is none.
type onDisk struct {
	// whole is the size up to the last newline, size all of it.
	whole, size int64
	lines       int
}

// load reads the state of this boot, or starts one.
func (d Dir) load(boot string) (ipam.State, onDisk, error) {
	s, disk, err := d.read(boot)
	switch {
	case err == nil:
		return s, disk, nil
	case errors.Is(err, ipam.ErrFormat):
		aside := filepath.Join(d.Path, stateName+".damaged")
		if err := os.Rename(filepath.Join(d.Path, stateName), aside); err != nil {
			return s, disk, fmt.Errorf("set damaged network state aside: %w", err)
		}
		if d.Damaged != nil {
			d.Damaged(aside, err)
		}
	case !errors.Is(err, os.ErrNotExist):
		return s, disk, err
	}
	s = ipam.State{Boot: boot}
	if d.Seed != nil {
		if s.Leases, err = d.Seed(); err != nil {
			return s, disk, fmt.Errorf("rebuild network state from the kernel: %w", err)
		}
	}
	return s, disk, nil
}

// read gives os.ErrNotExist for a state of an earlier boot as well.
func (d Dir) read(boot string) (ipam.State, onDisk, error) {
	path := filepath.Join(d.Path, stateName)
	text, err := os.ReadFile(path)
	if err != nil {
		return ipam.State{}, onDisk{}, fmt.Errorf("read network state: %w", err)
	}
	s, lines, err := ipam.Unmarshal(text)
	if err != nil {
		return ipam.State{}, onDisk{}, fmt.Errorf("%s: %w", path, err)
	}
	if s.Boot != boot {
		return ipam.State{}, onDisk{}, fmt.Errorf("%s is of an earlier boot: %w", path, os.ErrNotExist)
	}
	return s, onDisk{whole: int64(bytes.LastIndexByte(text, '\n') + 1), size: int64(len(text)), lines: lines}, nil
}

// save appends the change, or writes the file anew when there is none or when
// it holds more history than state. Replacing a file costs a millisecond on
// ext4 (it writes the new one out first), appending a hundredth of that.
func (d Dir) save(disk onDisk, old, next ipam.State) error {
	if disk.whole == 0 || disk.lines > historyFactor*len(next.Leases)+historyLines {
		return d.replace(next)
	}
	text, err := ipam.Changes(old, next)
	if err != nil || len(text) == 0 {
		return err
	}
	f, err := os.OpenFile(filepath.Join(d.Path, stateName), os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("write network state: %w", err)
	}
	defer f.Close()
	if disk.size > disk.whole { // the end of a change whose writer was killed
		if err := f.Truncate(disk.whole); err != nil {
			return fmt.Errorf("write network state: %w", err)
		}
	}
	if _, err := f.WriteAt(text, disk.whole); err != nil {
		return errors.Join(fmt.Errorf("write network state (is the disk full?): %w", err), f.Truncate(disk.whole))
	}
	return nil
}

func (d Dir) replace(s ipam.State) error {
	text, err := s.Marshal()
	if err != nil {
		return err
	}
	path := filepath.Join(d.Path, stateName)
	// One name for all: only the holder of the lock writes, and a left-over of a killed one is overwritten.
	tmp := path + ".new"
	if err := os.WriteFile(tmp, text, 0o600); err != nil {
		_ = os.Remove(tmp)
		return fmt.Errorf("write network state (is the disk full?): %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write network state: %w", err)
	}
	return nil
}

func (d Dir) lock() (unlock func(), err error) {
	path := filepath.Join(d.Path, lockName)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open network state lock: %w", err)
	}
	for deadline := time.Now().Add(lockTimeout); ; time.Sleep(lockPause) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) || time.Now().After(deadline) {
			_ = f.Close()
			return nil, fmt.Errorf("lock network state %s (`fuser -v %s` shows who holds it): %w", path, path, err)
		}
	}
	return func() { _ = f.Close() }, nil
}

func readBootID() (string, error) {
	b, err := os.ReadFile(bootID)
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
