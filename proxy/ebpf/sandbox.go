package ebpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"nodelet/internal/bpffs"
)

// Sandbox is where back ends can be tried while the node notices nothing: a
// cgroup that only chosen threads of this process are in, and a BPF file
// system of its own. Only one is in use at a time, as the process can only be
// in one cgroup.
type Sandbox struct {
	root, home   string // of the cgroup2 tree; where the process came from
	parent, node string
	bpffs        string
}

// NewSandbox moves the process into a cgroup of its own until Close.
func NewSandbox() (s *Sandbox, err error) {
	s = &Sandbox{}
	if s.root, err = cgroupRoot(); err != nil {
		return nil, err
	}
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("find the cgroup of this process: %w", err)
	}
	_, home, _ := strings.Cut("\n"+string(text), "\n0::")
	home, _, _ = strings.Cut(home, "\n")
	s.home = filepath.Join(s.root, home)
	if s.bpffs, err = bpffs.Temporary(); err != nil {
		return nil, err
	}
	if s.parent, err = os.MkdirTemp(s.root, "nodelet-trial-"); err != nil {
		return nil, errors.Join(fmt.Errorf("make a cgroup: %w", err), bpffs.RemoveTemporary(s.bpffs))
	}
	s.node = filepath.Join(s.parent, "node")
	if err := s.enter(); err != nil {
		return nil, errors.Join(fmt.Errorf("move into a cgroup: %w", err), s.Close())
	}
	return s, nil
}

// enter moves the process. Below its cgroup is a threaded one, so that single
// threads can go there and come back.
func (s *Sandbox) enter() error {
	if err := os.WriteFile(filepath.Join(s.parent, "cgroup.procs"), fmt.Append(nil, os.Getpid()), 0); err != nil {
		return err
	}
	if err := os.Mkdir(s.node, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.node, "cgroup.type"), []byte("threaded"), 0)
}

// Config is that of a back end for the node in a network namespace.
func (s *Sandbox) Config(netns int) Config {
	return Config{NetNS: netns, Cgroup: s.node, BPFFS: s.bpffs}
}

// Within runs f in the cgroup; the calling goroutine must be locked to its thread.
func (s *Sandbox) Within(f func() error) error {
	tid := fmt.Append(nil, unix.Gettid())
	if err := os.WriteFile(filepath.Join(s.node, "cgroup.threads"), tid, 0); err != nil {
		return fmt.Errorf("move a thread into a cgroup: %w", err)
	}
	defer func() { _ = os.WriteFile(filepath.Join(s.parent, "cgroup.threads"), tid, 0) }()
	return f()
}

// Close brings the process back. What back ends have left in the sandbox goes
// with it.
func (s *Sandbox) Close() error {
	_ = os.WriteFile(filepath.Join(s.home, "cgroup.procs"), fmt.Append(nil, os.Getpid()), 0)
	var errs []error
	for _, dir := range []string{s.node, s.parent} {
		if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove a cgroup: %w", err))
		}
	}
	return errors.Join(append(errs, bpffs.RemoveTemporary(s.bpffs))...)
}
