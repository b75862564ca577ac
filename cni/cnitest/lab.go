package cnitest

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"nodelet/internal/netns"
	"nodelet/internal/nl"
)

// MTU of the wire; not 1500, so that a forgotten one shows.
const MTU = 1400

// Lab is one wire with hosts on it.
type Lab struct {
	t    testing.TB
	wire *netns.NS
	next int
	// Dir holds files of the lab.
	Dir string
}

// Host is a machine on the wire.
type Host struct {
	Name string
	IP   netip.Addr
	IP6  netip.Addr
	NS   *netns.NS
	t    testing.TB
}

// New makes a wire. Without root the test is skipped.
func New(t testing.TB) *Lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	l := &Lab{t: t, wire: newNS(t), Dir: t.TempDir()}
	in(t, l.wire, func(c *nl.Conn) error { return c.AddBridge("wire") })
	return l
}

// Host adds a machine: 192.0.2.N and 2001:db8::N on eth0, and default routes
// through 192.0.2.254, which is nobody.
func (l *Lab) Host(name string) *Host {
	l.t.Helper()
	l.next++
	h := &Host{Name: name, NS: newNS(l.t), t: l.t,
		IP: netip.AddrFrom4([4]byte{192, 0, 2, byte(l.next)}), IP6: netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", l.next))}
	in(l.t, l.wire, func(c *nl.Conn) error {
		bridge, err := c.Link("wire")
		if err != nil {
			return err
		}
		port, err := c.AddVeth(nl.Veth{Name: fmt.Sprintf("port%d", l.next), MTU: MTU, PeerNS: h.NS.Fd(), PeerName: "eth0"})
		if err != nil {
			return err
		}
		return c.SetMaster(port, bridge.Index)
	})
	in(l.t, h.NS, func(c *nl.Conn) error {
		eth0, err := c.Link("eth0")
		if err != nil {
			return err
		}
		for _, index := range []int{1, eth0.Index} {
			if err := c.SetUp(index); err != nil {
				return err
			}
		}
		for _, p := range []netip.Prefix{netip.PrefixFrom(h.IP, 24), netip.PrefixFrom(h.IP6, 64)} {
			if err := c.AddAddr(nl.Addr{Prefix: p, Link: eth0.Index}); err != nil {
				return err
			}
		}
		return c.ReplaceRoute(nl.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("192.0.2.254"), Link: eth0.Index, Proto: 4})
	})
	return h
}

// Do runs fn inside the host.
func (h *Host) Do(fn func() error) {
	h.t.Helper()
	if err := h.NS.Do(fn); err != nil {
		h.t.Fatalf("in host %s: %v", h.Name, err)
	}
}

// Sysctl sets a network sysctl of the host.
func (h *Host) Sysctl(key, value string) {
	h.t.Helper()
	h.Do(func() error { _, err := netns.WriteSysctl(key, value); return err })
}

// Run runs a command inside the host and returns what it prints.
func (h *Host) Run(name string, args ...string) string {
	h.t.Helper()
	var out []byte
	h.Do(func() (err error) {
		if out, err = exec.Command(name, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s %v: %w: %s", name, args, err, out)
		}
		return nil
	})
	return string(out)
}

// In opens a socket to the host's links, addresses and routes for fn.
func (h *Host) In(fn func(*nl.Conn) error) {
	h.t.Helper()
	in(h.t, h.NS, fn)
}

// BuildPlugin compiles nodelet-cni with these build tags, once per directory.
func BuildPlugin(dir, tags string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-tags", tags, "-o", filepath.Join(dir, "nodelet-cni"), "nodelet/cmd/nodelet-cni")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build nodelet-cni: %w: %s", err, out)
	}
	return nil
}

func newNS(t testing.TB) *netns.NS {
	t.Helper()
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	return ns
}

func in(t testing.TB, ns *netns.NS, fn func(*nl.Conn) error) {
	t.Helper()
	c, err := nl.OpenAt(ns.Fd())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := fn(c); err != nil {
		t.Fatal(err)
	}
}
