package ebpf_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"nodelet/proxy"
	"nodelet/proxy/ebpf"
	"nodelet/proxy/proxytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestConformance has the sockets of the node and its pods in a cgroup of
// their own, where the programs are; those of other hosts are outside of it.
func TestConformance(t *testing.T) {
	conformance(t, func(*ebpf.Config) {})
}

// TestConformanceClsact has the programs where kernels before 6.6 have them.
func TestConformanceClsact(t *testing.T) {
	if testing.Short() {
		t.Skip("the same cases as TestConformance, on another hook")
	}
	conformance(t, func(c *ebpf.Config) { c.NoTCX = true })
}

// TestConformanceXDP has the packets of known connections between other hosts
// forwarded by XDP.
func TestConformanceXDP(t *testing.T) {
	conformance(t, func(c *ebpf.Config) { c.XDP = []string{"eth0", "eth1"} }, proxytest.Prepared((*proxytest.Lab).TakesXDP))
}

func conformance(t *testing.T, configure func(*ebpf.Config), more ...proxytest.Trait) {
	s := sandbox(t)
	cfg := s.Config(0)
	configure(&cfg)
	traits := []proxytest.Trait{
		proxytest.Sockets(s.Within), proxytest.OwnNAT(), proxytest.RefusesSCTP(), proxytest.Configured(func(c *proxy.Config) { c.EBPF = cfg }),
	}
	if !ebpf.CanRefuse() {
		traits = append(traits, proxytest.RefusedByEPERM())
	}
	if !ebpf.CanEnd(t) {
		traits = append(traits, proxytest.KeepsSockets())
	}
	proxytest.Conformance(t, oneNode(t, cfg), append(traits, more...)...)
}

func sandbox(t *testing.T) *ebpf.Sandbox {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: makes a cgroup and mounts a BPF file system")
	}
	s, err := ebpf.NewSandbox()
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
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
