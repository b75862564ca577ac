package ebpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"nodelet/internal/bpffs"
)

// Sandbox is where back ends can be tried while the node notices nothing: a
// cgroup that only chosen threads of this process are in, and a BPF file
// system that is mounted nowhere. Only that which was made last can run threads
// (Within), as the process can only be in one cgroup. Of one whose process was killed, only the empty
// cgroup is left: the next one removes it, and RemoveTrials.
type Sandbox struct {
	root, home   string // of the cgroup2 tree; where the process came from
	parent, node string
	pins         *bpffs.Temporary
	// mark is locked as long as the sandbox is in use, also without a process in it.
	mark *os.File
}

// NewSandbox moves the process into a cgroup of its own until Close.
func NewSandbox() (*Sandbox, error) {
	root, err := cgroupRoot()
	if err != nil {
		return nil, err
	}
	return newSandbox(root)
}

// newSandbox is NewSandbox below any cgroup of the tree.
func newSandbox(root string) (s *Sandbox, err error) {
	home, err := ownCgroup()
	if err != nil {
		return nil, err
	}
	unlock, err := lockTrials(root)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if _, err := removeTrials(root); err != nil {
		return nil, err
	}
	s = &Sandbox{root: root, home: home}
	if s.pins, err = bpffs.NewTemporary(); err != nil {
		return nil, err
	}
	if s.parent, err = os.MkdirTemp(s.root, trialPrefix); err != nil {
		return nil, errors.Join(fmt.Errorf("make a cgroup: %w", err), s.pins.Close())
	}
	if s.mark, err = markUsed(s.parent); err != nil {
		return nil, errors.Join(err, s.Close())
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
	return Config{NetNS: netns, Cgroup: s.node, BPFFS: s.pins.Dir()}
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
		if dir == "" {
			continue
		}
		if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove a cgroup: %w", err))
		}
	}
	if s.mark != nil {
		errs = append(errs, s.mark.Close())
	}
	return errors.Join(append(errs, s.pins.Close())...)
}
