package iptables_test

import (
	"net/netip"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"nodelet/internal/model"
	"nodelet/internal/netns"
	"nodelet/internal/xtables"
	"nodelet/proxy/iptables"
	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
	"nodelet/proxy/proxytest"
	"nodelet/proxy/traffic"
)

// TestPackets: what the rules count is what was sent, and a change of Services forgets none of it.
func TestPackets(t *testing.T) {
	for _, v := range []xtables.Variant{xtables.Legacy, xtables.NFT} {
		t.Run(string(v), func(t *testing.T) {
			t.Setenv("XTABLES_LOCKFILE", filepath.Join(t.TempDir(), "lock"))
			l := proxytest.NewLab(t)
			l.Serve(l.Host("a"), 8080)
			onNode(t, l, func() error { _, err := netns.WriteSysctl("ipv4/conf/all/route_localnet", "1"); return err })
			b, err := iptables.New(t.Context(), iptables.Config{NetNS: l.Node.NS.Fd(), IPv6: true, Variant: v})
			if err != nil {
				t.Skip(err)
			}
			defer func() { _ = b.Close() }()
			w := lbtest.MustParse("node n1 192.168.7.1\nservice d/x NodePort 10.96.0.1 p:80/TCP[30080]\nslice d/x of d/x p:8080/TCP 10.244.1.2=ready@n1\n")
			cfg := &lb.Config{NodeName: "n1", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}, LocalhostNodePorts: true}
			state := lb.Compile(cfg, w.Snapshot())
			counts := func() iptables.Packets {
				t.Helper()
				if _, err := b.Apply(t.Context(), state); err != nil {
					t.Fatal(err)
				}
				n, err := b.Packets(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return n
			}
			if n := counts(); n != (iptables.Packets{}) {
				t.Fatalf("before any packet: %+v", n)
			}
			for i, to := range []string{"127.0.0.1:30080", "127.0.0.2:30080", "192.168.7.1:30080", "10.96.0.1:80"} {
				if got, err := l.Ask(l.Node, model.TCP, netip.MustParseAddrPort(to), traffic.Patience); err != nil || got.Server != "a" {
					t.Fatalf("%s: %s %v\n%s", to, got, err, l.Dump())
				}
				if n := counts(); n.Localhost != uint64(min(i+1, 2)) {
					t.Errorf("after %s: %+v", to, n)
				}
			}
			sendInvalid(t, l.Host("outside"), l.Host("a").IP4)
			if err := w.Apply("service d/y NodePort 10.96.0.2 p:80/TCP[30081]"); err != nil {
				t.Fatal(err)
			}
			state = lb.Advance(state, w.Snapshot())
			if n := counts(); n != (iptables.Packets{Invalid: 1, Localhost: 2}) {
				t.Errorf("after an invalid packet and a change: %+v\n%s", n, l.Dump())
			}
		})
	}
}

func onNode(t *testing.T, l *proxytest.Lab, f func() error) {
	t.Helper()
	if err := l.Node.NS.Do(f); err != nil {
		t.Fatal(err)
	}
}

// sendInvalid sends a TCP segment whose header claims to be longer than it is, which connection tracking finds invalid.
func sendInvalid(t *testing.T, from *proxytest.Host, to netip.Addr) {
	t.Helper()
	err := from.NS.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		segment := make([]byte, 20)
		segment[12], segment[13] = 0xf0, 0x10
		return unix.Sendto(fd, segment, 0, &unix.SockaddrInet4{Addr: to.As4()})
	})
	if err != nil {
		t.Fatal(err)
	}
}
