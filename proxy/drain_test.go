package proxy_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nodelet/internal/conntrack"
	"nodelet/internal/model"
	"nodelet/proxy"
	"nodelet/proxy/ebpf"
	"nodelet/proxy/lb/lbtest"
	"nodelet/proxy/proxytest"
	"nodelet/proxy/traffic"
)

const drainWorld = `node n1 192.168.7.1 192.168.8.1 fd07::1 fd08::1
service d/x NodePort 10.96.0.1,fd96::1 p:80/TCP[30080] q:53/UDP[30053]
slice d/x-4 of d/x p:8080/TCP q:8080/UDP 10.244.1.2=ready@n1 10.244.1.3=ready@n1
slice d/x-6 of d/x p:8080/TCP q:8080/UDP fd44:1::2=ready@n1 fd44:1::3=ready@n1
`

// drainLab is a lab whose proxy can be killed, started anew and switched.
type drainLab struct {
	*proxytest.Lab
	t     *testing.T
	world *lbtest.World
	cfg   proxy.Config
	proxy *proxy.Proxy
	stop  func()
}

func newDrainLab(t *testing.T, mode string) *drainLab {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: makes a cgroup and a BPF file system")
	}
	box, err := ebpf.NewSandbox()
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		if err := box.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Setenv("XTABLES_LOCKFILE", filepath.Join(t.TempDir(), "lock"))
	l := &drainLab{Lab: proxytest.NewLab(t), t: t, world: lbtest.MustParse(drainWorld)}
	l.Sockets(box.Within)
	l.Serve(l.Host("a"), 8080)
	l.Serve(l.Host("b"), 8080)
	l.cfg = proxy.Config{
		NodeName: "n1", NetNS: l.Node.NS.Fd(), EBPF: box.Config(l.Node.NS.Fd()), Resync: 100 * time.Millisecond,
		PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd44::/16")},
	}
	l.start(mode)
	t.Cleanup(func() {
		l.stop()
		if _, err := proxy.Cleanup(context.Background(), l.cfg); err != nil {
			t.Error(err)
		}
	})
	return l
}

// start runs a proxy without memory; only the last one's State is awaited.
func (l *drainLab) start(mode string) {
	l.t.Helper()
	if l.stop != nil {
		l.stop()
	}
	ctx, cancel := context.WithCancel(context.Background())
	cfg := l.cfg
	cfg.Mode = mode
	p, err := proxy.New(ctx, cfg, proxy.Deps{Store: l.world.Store, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		cancel()
		l.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	stopped := false
	l.proxy, l.stop = p, func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			l.t.Error(err)
		}
	}
	l.until("the proxy stands", func() bool { return p.State() != nil })
}

func (l *drainLab) until(what string, is func() bool) {
	l.t.Helper()
	for deadline := time.Now().Add(traffic.Patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			l.t.Fatalf("%s: not within %s; %+v", what, traffic.Patience, l.proxy.Status())
		}
	}
}

// open opens connections of all kinds and gives who answers each.
func (l *drainLab) open(ways map[string]netip.AddrPort, proto model.Protocol, kept map[*traffic.Conn]string) {
	l.t.Helper()
	for from, to := range ways {
		c, err := l.Dial(l.Host(from), proto, to, traffic.Patience)
		if err != nil {
			l.t.Fatalf("%s -> %s: %v", from, to, err)
		}
		got, err := c.Ask(traffic.Patience)
		if err != nil || got.Server == "" {
			l.t.Fatalf("%s -> %s: %s %v", from, to, got, err)
		}
		kept[c] = got.Server
	}
}

// go on: each connection is still answered by who answered it before.
func (l *drainLab) goOn(when string, kept map[*traffic.Conn]string) {
	l.t.Helper()
	for c, server := range kept {
		if got, err := c.Ask(10 * time.Second); err != nil || got.Server != server {
			l.t.Errorf("%s: %s %s -> %s was answered by %s: now %s %v", when, c.LocalAddr().Network(), c.LocalAddr(), c.RemoteAddr(), server, got, err)
		}
	}
}

func (l *drainLab) switchTo(mode string) {
	l.t.Helper()
	done, err := l.proxy.Switch(l.t.Context(), mode)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Log(strings.Join(done.Steps, "\n"))
}

// forget removes what netfilter has translated: else it would remember closed
// connections for two minutes.
func (l *drainLab) forget() {
	l.t.Helper()
	c, err := conntrack.Open(l.Node.NS.Fd())
	if err != nil {
		l.t.Fatal(err)
	}
	defer c.Close()
	for _, ipv6 := range []bool{false, true} {
		if _, err := c.Delete(l.t.Context(), ipv6, func(f conntrack.Flow) bool { return f.AnswersFrom != f.Dst }); err != nil {
			l.t.Fatal(err)
		}
	}
}

var (
	tcpWays = map[string]netip.AddrPort{
		"outside": netip.MustParseAddrPort("192.168.7.1:30080"), "second": netip.MustParseAddrPort("[fd08::1]:30080"),
		"c": netip.MustParseAddrPort("10.96.0.1:80"), "a": netip.MustParseAddrPort("192.168.7.1:30080"), "node": netip.MustParseAddrPort("10.96.0.1:80"),
	}
	udpWays = map[string]netip.AddrPort{
		"outside": netip.MustParseAddrPort("192.168.7.1:30053"), "c": netip.MustParseAddrPort("10.96.0.1:53"), "second": netip.MustParseAddrPort("[fd08::1]:30053"),
	}
)

// TestAwayFromEBPF: what began by its programs ends by them, over a restart of
// the daemon; what begins is the new mode's; then the programs go.
func TestAwayFromEBPF(t *testing.T) {
	l := newDrainLab(t, proxy.EBPF)
	kept := map[*traffic.Conn]string{}
	l.open(tcpWays, model.TCP, kept)
	l.open(udpWays, model.UDP, kept)
	l.switchTo(proxy.Nftables)
	l.goOn("after the switch", kept)
	status := l.proxy.Status()
	if status.Mode != proxy.Nftables || status.Draining == nil || status.Draining.Mode != proxy.EBPF || status.Draining.Connections < 5 {
		t.Fatalf("after the switch: %+v", status)
	}
	fresh := map[*traffic.Conn]string{}
	l.open(tcpWays, model.TCP, fresh)
	l.goOn("new connections", fresh)
	l.start(proxy.Nftables)
	l.until("the new daemon knows what drains", func() bool { return l.proxy.Status().Draining != nil })
	l.goOn("after a restart", kept)
	l.goOn("new connections after a restart", fresh)
	// An endpoint that leaves is left by UDP, and by no TCP connection.
	if err := l.world.Apply("slice d/x-4 of d/x p:8080/TCP q:8080/UDP 10.244.1.3=ready@n1"); err != nil {
		t.Fatal(err)
	}
	await(t, l.world.Store, l.world.Snapshot().Revision)
	for c, server := range kept {
		if c.LocalAddr().Network() == "udp" && server == "a" && !strings.HasPrefix(c.RemoteAddr().String(), "[") {
			kept[c] = "b"
		}
	}
	l.goOn("after an endpoint has left", kept)
	// And back: nothing drains any more.
	l.switchTo(proxy.EBPF)
	l.goOn("back", fresh)
	l.goOn("back", kept)
	l.switchTo(proxy.Iptables)
	l.goOn("away by another way", kept)
	l.goOn("away by another way", fresh)
	left, err := proxy.Residue(t.Context(), l.cfg)
	if all := strings.Join(left, "\n"); err != nil || strings.Contains(all, "nodelet-proxy") || !strings.Contains(all, "BPF pin") || !strings.Contains(all, "NDP-") {
		t.Errorf("left with iptables in use and eBPF draining: %v\n%s", err, all)
	}
	for _, all := range []map[*traffic.Conn]string{kept, fresh} {
		for c := range all {
			_ = c.Close()
		}
	}
}

// TestIntoEBPF: connections that netfilter translates go on, over a restart of
// the daemon; when they have ended, netfilter's rules go.
func TestIntoEBPF(t *testing.T) {
	for _, mode := range []string{proxy.Nftables, proxy.Iptables} {
		t.Run(mode, func(t *testing.T) {
			l := newDrainLab(t, mode)
			kept := map[*traffic.Conn]string{}
			l.open(tcpWays, model.TCP, kept)
			l.switchTo(proxy.EBPF)
			l.goOn("after the switch", kept)
			if s := l.proxy.Status(); s.Mode != proxy.EBPF || s.Draining == nil || s.Draining.Connections != len(kept) {
				t.Fatalf("after the switch: %+v %+v", s, s.Draining)
			}
			fresh := map[*traffic.Conn]string{}
			l.open(tcpWays, model.TCP, fresh)
			l.open(udpWays, model.UDP, fresh)
			l.start(proxy.EBPF)
			l.until("the new daemon knows what drains", func() bool { return l.proxy.Status().Draining != nil })
			l.goOn("after a restart", kept)
			l.goOn("new connections after a restart", fresh)
			for c := range kept {
				_ = c.Close()
			}
			l.forget()
			l.until("nothing drains", func() bool { return l.proxy.Status().Draining == nil })
			l.goOn("at the end", fresh)
			for c := range fresh {
				_ = c.Close()
			}
		})
	}
}

// TestUDPIntoEBPF: UDP flows that netfilter translates go on to their endpoints, those of the node's own
// sockets by netfilter and all others by the programs, also over a restart; an endpoint that leaves is left.
func TestUDPIntoEBPF(t *testing.T) {
	for _, mode := range []string{proxy.Nftables, proxy.Iptables} {
		t.Run(mode, func(t *testing.T) {
			l := newDrainLab(t, mode)
			kept, own := map[*traffic.Conn]string{}, map[*traffic.Conn]string{}
			for range 4 { // so that not all meet the same endpoint again by chance
				l.open(udpWays, model.UDP, kept)
			}
			l.open(map[string]netip.AddrPort{"a": netip.MustParseAddrPort("10.96.0.1:53")}, model.UDP, kept) // its own endpoint, perhaps
			l.open(map[string]netip.AddrPort{"node": netip.MustParseAddrPort("10.96.0.1:53")}, model.UDP, own)
			saw := map[*traffic.Conn]netip.Addr{}
			for c := range kept {
				got, err := c.Ask(10 * time.Second)
				if err != nil {
					t.Fatal(err)
				}
				saw[c] = got.Saw
			}
			l.switchTo(proxy.EBPF)
			for c, server := range kept {
				if got, err := c.Ask(10 * time.Second); err != nil || got.Server != server || got.Saw != saw[c] {
					t.Errorf("%s -> %s was answered by %s, which saw %s: now %s %v", c.LocalAddr(), c.RemoteAddr(), server, saw[c], got, err)
				}
			}
			l.goOn("the node's own", own)
			if left := l.translatedUDP(); left != len(own) {
				t.Errorf("netfilter translates %d UDP flows, want %d", left, len(own))
			}
			l.start(proxy.EBPF)
			l.goOn("after a restart", kept)
			if err := l.world.Apply("slice d/x-4 of d/x p:8080/TCP q:8080/UDP 10.244.1.3=ready@n1\nslice d/x-6 of d/x p:8080/TCP q:8080/UDP fd44:1::3=ready@n1"); err != nil {
				t.Fatal(err)
			}
			await(t, l.world.Store, l.world.Snapshot().Revision)
			for c := range kept {
				kept[c] = "b"
			}
			l.goOn("after an endpoint has left", kept)
			for _, all := range []map[*traffic.Conn]string{kept, own} {
				for c := range all {
					_ = c.Close()
				}
			}
		})
	}
}

// translatedUDP counts the UDP flows that netfilter translates.
func (l *drainLab) translatedUDP() (n int) {
	l.t.Helper()
	c, err := conntrack.Open(l.Node.NS.Fd())
	if err != nil {
		l.t.Fatal(err)
	}
	defer c.Close()
	for _, ipv6 := range []bool{false, true} {
		flows, err := c.List(l.t.Context(), ipv6)
		if err != nil {
			l.t.Fatal(err)
		}
		for _, f := range flows {
			if f.Proto == uint8(model.UDP) && f.AnswersFrom != f.Dst {
				n++
			}
		}
	}
	return n
}

// TestOwnUDPAwayFromEBPF: a UDP socket of the node that is connected to an endpoint keeps the programs,
// which end it when the endpoint leaves: nobody else would. Then they go.
func TestOwnUDPAwayFromEBPF(t *testing.T) {
	l := newDrainLab(t, proxy.EBPF)
	var u unix.Utsname
	var major, minor int
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	if n, _ := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor); n == 2 && (major < 6 || major == 6 && minor < 5) {
		t.Skip("the kernel cannot end sockets before 6.5")
	}
	kept := map[*traffic.Conn]string{}
	l.open(map[string]netip.AddrPort{"node": netip.MustParseAddrPort("10.96.0.1:53")}, model.UDP, kept)
	l.switchTo(proxy.Nftables)
	l.goOn("after the switch", kept)
	if s := l.proxy.Status(); s.Draining == nil || s.Draining.Connections != 1 {
		t.Fatalf("after the switch: %+v", s.Draining)
	}
	l.start(proxy.Nftables)
	l.until("the new daemon knows what drains", func() bool { return l.proxy.Status().Draining != nil })
	l.goOn("after a restart", kept)
	for c, server := range kept {
		stays := map[string]string{"a": "10.244.1.3", "b": "10.244.1.2"}[server]
		if err := l.world.Apply("slice d/x-4 of d/x p:8080/TCP q:8080/UDP " + stays + "=ready@n1"); err != nil {
			t.Fatal(err)
		}
		await(t, l.world.Store, l.world.Snapshot().Revision)
		l.until("the socket is ended", func() bool { _, err := c.Write([]byte("?\n")); return err != nil })
		_ = c.Close()
	}
	l.until("nothing drains", func() bool { return l.proxy.Status().Draining == nil })
}
