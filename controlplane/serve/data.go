package serve

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"nodelet/controlplane/durable"
)

// dataVersion counts changes of the layout under the controlplane folder that
// an older program would misread.
const dataVersion = 1

// minFree is what the data directory's disk must have left: etcd alone
// preallocates two log segments of 64 MB.
const minFree = 200 << 20

// openData makes the control plane's folder and takes its lock, which the
// kernel gives back however this process ends.
func openData(cfg Config) (*os.File, error) {
	if err := os.MkdirAll(cfg.DataDir, 0o755); err != nil { // pods' folders are below
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	if err := durable.Dir(cfg.dir(), durable.Private); err != nil {
		return nil, err
	}
	lock, err := takeLock(cfg.in("lock"))
	if err != nil {
		return nil, err
	}
	if err := errors.Join(checkVersion(cfg.in("version")), checkSpace(cfg.DataDir)); err != nil {
		lock.Close()
		return nil, err
	}
	return lock, nil
}

// writePID says which process serves. What it returns takes it back, unless a
// successor has written its own by then.
func writePID(path string) (remove func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	mine := []byte(strconv.Itoa(os.Getpid()) + "\n")
	if err := durable.Write(path, mine, durable.Public); err != nil {
		return nil, err
	}
	return func() {
		if now, err := os.ReadFile(path); err == nil && bytes.Equal(now, mine) {
			os.Remove(path)
		}
	}, nil
}

func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, durable.Secret)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := flockSoon(f); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: another control plane runs with this data directory: stop it or use another --data-dir", path)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

func checkVersion(path string) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return durable.Write(path, []byte(strconv.Itoa(dataVersion)+"\n"), durable.Public)
	}
	if err != nil {
		return fmt.Errorf("read data version: %w", err)
	}
	v, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return fmt.Errorf("read data version from %s: %q is not a number", path, data)
	}
	if v > dataVersion {
		return fmt.Errorf("check data version: %s says %d, this program knows %d: the data was written by a newer nodelet, run that one", path, v, dataVersion)
	}
	return nil
}

func checkSpace(dir string) error {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return fmt.Errorf("check free space of %s: %w", dir, err)
	}
	if free := s.Bavail * uint64(s.Bsize); free < minFree {
		return fmt.Errorf("check free space of %s: %d MB left, the database needs %d: free some space on that disk", dir, free>>20, uint64(minFree)>>20)
	}
	return nil
}

// lockWait lets a predecessor that was killed finish dying: the kernel takes a
// while to tear down a process of this size, and keeps its lock until then.
const lockWait = 3 * time.Second

func flockSoon(f *os.File) error {
	for deadline := time.Now().Add(lockWait); ; time.Sleep(20 * time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) || time.Now().After(deadline) {
			return err
		}
	}
}
