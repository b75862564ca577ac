package ebpf_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"nodelet/proxy"
	"nodelet/proxy/ebpf"
	"nodelet/proxy/proxytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestConformance has the sockets of the node and its pods in a cgroup of
// their own, where the programs are; those of other hosts are outside of it.
func TestConformance(t *testing.T) {
	cg := newCgroup(t)
	proxytest.Conformance(t, oneNode(t, ebpf.Config{Cgroup: cg.dir}), proxytest.Sockets(cg.within), proxytest.OwnNAT())
}

// TestConformanceClsact has the programs where kernels before 6.6 have them.
func TestConformanceClsact(t *testing.T) {
	if testing.Short() {
		t.Skip("the same cases as TestConformance, on another hook")
	}
	cg := newCgroup(t)
	proxytest.Conformance(t, oneNode(t, ebpf.Config{Cgroup: cg.dir, NoTCX: true}), proxytest.Sockets(cg.within), proxytest.OwnNAT())
}

// oneNode opens back ends. All nodes of the cases share one cgroup, so what one
// has left there is removed when the next one comes.
func oneNode(t *testing.T, cfg ebpf.Config) proxytest.Open {
	var last *ebpf.Backend
	lastCookie := uint64(0)
	t.Cleanup(func() {
		if last != nil {
			if err := ebpf.RemovePins(last); err != nil {
				t.Error(err)
			}
		}
	})
	return func(netns int) (proxy.Backend, error) {
		cfg.NetNS = netns
		back, err := ebpf.New(cfg)
		if err != nil {
			return nil, err
		}
		if last != nil && ebpf.Cookie(back) != lastCookie {
			if err := ebpf.RemovePins(last); err != nil {
				return nil, err
			}
		}
		last, lastCookie = back, ebpf.Cookie(back)
		return back, nil
	}
}

type cgroup struct{ parent, dir string }

// newCgroup moves this process into a cgroup of its own, with a threaded one
// below it, so that single threads can be moved there and back.
func newCgroup(t *testing.T) cgroup {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: makes a cgroup")
	}
	root := "/sys/fs/cgroup"
	if _, err := os.Stat(filepath.Join(root, "cgroup.procs")); err != nil {
		root = filepath.Join(root, "unified")
	}
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	_, home, ok := strings.Cut("\n"+string(text), "\n0::")
	if !ok {
		t.Skip("no cgroup2 tree")
	}
	home, _, _ = strings.Cut(home, "\n")
	parent := filepath.Join(root, fmt.Sprintf("nodelet-test-%d", os.Getpid()))
	c := cgroup{parent: parent, dir: filepath.Join(parent, "node")}
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		_ = os.WriteFile(filepath.Join(root, home, "cgroup.procs"), []byte(fmt.Sprint(os.Getpid())), 0)
		_ = os.Remove(c.dir)
		if err := os.Remove(c.parent); err != nil {
			t.Error(err)
		}
	})
	if err := os.MkdirAll(parent, 0o755); err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(parent, "cgroup.procs"), fmt.Sprint(os.Getpid()))
	if err := os.Mkdir(c.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(c.dir, "cgroup.type"), "threaded")
	return c
}

// within runs f on this thread, which is locked, inside the cgroup.
func (c cgroup) within(f func() error) error {
	tid := []byte(fmt.Sprint(unix.Gettid()))
	if err := os.WriteFile(filepath.Join(c.dir, "cgroup.threads"), tid, 0); err != nil {
		return err
	}
	defer func() { _ = os.WriteFile(filepath.Join(c.parent, "cgroup.threads"), tid, 0) }()
	return f()
}
