package proxy_test

import (
	"context"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"nodelet/internal/model"
	"nodelet/proxy"
	"nodelet/proxy/lb/lbtest"
	"nodelet/proxy/proxytest"
	"nodelet/proxy/traffic"
)

const switchWorld = `node n1 192.168.7.1 192.168.8.1 fd07::1 fd08::1
service d/x NodePort 10.96.0.1,fd96::1 p:80/TCP[30080]
slice d/x-4 of d/x p:8080/TCP 10.244.1.2=ready@n1
slice d/x-6 of d/x p:8080/TCP fd44:1::2=ready@n1
`

// inLab runs a proxy on the lab's node until the test ends.
func inLab(t *testing.T, l *proxytest.Lab, w *lbtest.World, mode string) *proxy.Proxy {
	t.Helper()
	t.Setenv("XTABLES_LOCKFILE", filepath.Join(t.TempDir(), "lock"))
	ctx, cancel := context.WithCancel(context.Background())
	p, err := proxy.New(ctx, proxy.Config{
		NodeName: "n1", Mode: mode, NetNS: l.Node.NS.Fd(),
		PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd44::/16")},
	}, proxy.Deps{Store: w.Store, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	await(t, w.Store, w.Snapshot().Revision)
	return p
}

// TestSwitchLosesNothing: connections that are open stay open, and new ones
// are answered all the time, from one mode to the other and back.
func TestSwitchLosesNothing(t *testing.T) {
	l := proxytest.NewLab(t)
	l.Serve(l.Host("a"), 8080)
	w := lbtest.MustParse(switchWorld)
	p := inLab(t, l, w, proxy.Nftables)
	var conns []*traffic.Conn
	ways := map[string]netip.AddrPort{
		"b": netip.MustParseAddrPort("10.96.0.1:80"), "outside": netip.MustParseAddrPort("192.168.7.1:30080"), "node": netip.MustParseAddrPort("[fd96::1]:80"),
	}
	for from, to := range ways {
		c, err := l.Dial(l.Host(from), model.TCP, to, traffic.Patience)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
	}
	for _, mode := range []string{proxy.Iptables, proxy.Nftables} {
		stop, asked := make(chan struct{}), make(chan int)
		var broken atomic.Value
		go func() {
			n := 0
			for ; ; n++ {
				select {
				case <-stop:
					asked <- n
					return
				default:
				}
				for from, to := range ways {
					if got, err := l.Ask(l.Host(from), model.TCP, to, traffic.Patience); err != nil || got.Server != "a" {
						broken.Store(from + " -> " + to.String() + ": " + got.String())
					}
				}
			}
		}()
		done, err := p.Switch(t.Context(), mode)
		close(stop)
		n := <-asked
		if err != nil || done.To != mode || len(done.Steps) == 0 {
			t.Fatalf("switch to %s: %+v %v", mode, done, err)
		}
		if b := broken.Load(); b != nil {
			t.Errorf("while switching to %s (%d rounds): %s", mode, n, b)
		}
		for _, c := range conns {
			if got, err := c.Ask(traffic.Patience); err != nil || got.Server != "a" {
				t.Errorf("an open connection after the switch to %s: %s -> %s: %s %v", mode, c.LocalAddr(), c.RemoteAddr(), got, err)
			}
		}
		left, err := proxy.Residue(t.Context(), proxy.Config{NetNS: l.Node.NS.Fd()})
		for _, r := range left {
			if strings.Contains(r, "NDP-") != (mode == proxy.Iptables) {
				t.Errorf("after the switch to %s: %s", mode, r)
			}
		}
		if err != nil || len(left) == 0 {
			t.Errorf("nothing is there after the switch to %s: %v", mode, err)
		}
		// The new mode follows changes.
		if err := w.Apply("slice d/x-4 of d/x p:8080/TCP 10.244.1.2=ready@n1 10.244.1.9=not-ready@n1"); err != nil {
			t.Fatal(err)
		}
		await(t, w.Store, w.Snapshot().Revision)
		if got := p.Choice(); got.Mode != mode || p.Status().Mode != mode {
			t.Errorf("in use: %+v", got)
		}
	}
	// By its name, and as what auto comes to.
	for _, mode := range []string{proxy.Nftables, proxy.Auto} {
		if _, err := p.Switch(t.Context(), mode); err == nil || !strings.Contains(err.Error(), "in use already") {
			t.Errorf("switch to %s, which is in use: %v", mode, err)
		}
		if got, err := l.Ask(l.Host("b"), model.TCP, ways["b"], traffic.Patience); err != nil || got.Server != "a" {
			t.Errorf("after the refusal: %s %v", got, err)
		}
	}
}

// TestDriftIsNoticedAtOnce: a firewall that flushes everything is seen by the
// kernel's notification, named and repaired, long before the next resync.
func TestDriftIsNoticedAtOnce(t *testing.T) {
	for _, mode := range []string{proxy.Nftables, proxy.Iptables} {
		l := proxytest.NewLab(t)
		w := lbtest.MustParse(switchWorld)
		events := make(chan string, 8)
		t.Setenv("XTABLES_LOCKFILE", filepath.Join(t.TempDir(), "lock"))
		p, stop := startWith(t, w, proxy.Deps{Event: func(about model.Key, reason, message string) {
			events <- about.String() + " " + reason + ": " + message
		}}, func(c *proxy.Config) { c.Mode, c.NetNS = mode, l.Node.NS.Fd() })
		await(t, w.Store, w.Snapshot().Revision)
		if mode == proxy.Iptables && !strings.Contains(l.Command("iptables", "-V"), "nf_tables") {
			t.Log("legacy iptables does not notify: nothing to test")
			stop()
			continue
		}
		l.Command("nft", "flush", "ruleset")
		select {
		case e := <-events:
			if !strings.Contains(e, "ServiceRulesChanged") || !strings.Contains(e, "changed by nft (") {
				t.Errorf("%s: event %q", mode, e)
			}
		case <-time.After(10 * time.Second): // the resync comes after 30 s
			t.Fatalf("%s: nobody noticed", mode)
		}
		if s := p.Status(); s.Repairs != 1 || s.Last == nil {
			t.Errorf("%s: %+v", mode, s)
		}
		if out := l.Command("nft", "list", "ruleset"); !strings.Contains(out, "10.96.0.1") {
			t.Errorf("%s: after the repair:\n%s", mode, out)
		}
		// Somebody else's own table is nobody's business.
		l.Command("nft", "add", "table", "ip", "foreign")
		select {
		case e := <-events:
			t.Errorf("%s: about a foreign table: %s", mode, e)
		case <-time.After(100 * time.Millisecond):
		}
		stop()
	}
}
