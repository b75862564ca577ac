package conntrack_test

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"testing"

	"nodelet/internal/conntrack"
	"nodelet/internal/netns"
)

// TestListAndDelete makes two UDP flows over loopback and deletes one of them.
func TestListAndDelete(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	ns, err := netns.New()
	if err != nil {
		t.Skipf("needs network namespaces: %v", err)
	}
	defer func() { _ = ns.Close() }()
	err = ns.Do(func() error {
		// Connections are tracked only where a rule wants to know about them.
		for _, cmd := range [][]string{
			{"ip", "link", "set", "lo", "up"},
			{"nft", "add table inet t; add chain inet t c { type filter hook output priority 0; }; add rule inet t c ct state new counter"},
		} {
			if out, err := exec.Command(cmd[0], cmd[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %v %s", cmd, err, out)
			}
		}
		for _, to := range []string{"127.0.0.2:1001", "127.0.0.2:1002", "[::1]:1003"} {
			c, err := net.Dial("udp", to)
			if err != nil {
				return err
			}
			_, _ = c.Write([]byte("x")) // nobody listens: that it is tracked is enough
			_ = c.Close()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	ct, err := conntrack.Open(ns.Fd())
	if err != nil {
		t.Fatal(err)
	}
	defer ct.Close()
	ctx := context.Background()
	find := func(ipv6 bool, dst string) bool {
		flows, err := ct.List(ctx, ipv6)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range flows {
			if f.Dst == netip.MustParseAddrPort(dst) && f.Proto == 17 && f.AnswersFrom == f.Dst {
				return true
			}
		}
		return false
	}
	if !find(false, "127.0.0.2:1001") || !find(false, "127.0.0.2:1002") || !find(true, "[::1]:1003") {
		t.Fatal("flows are not listed")
	}
	n, err := ct.Delete(ctx, false, func(f conntrack.Flow) bool { return f.Dst.Port() == 1001 })
	if err != nil || n != 1 {
		t.Errorf("deleted %d flows, %v", n, err)
	}
	if find(false, "127.0.0.2:1001") || !find(false, "127.0.0.2:1002") {
		t.Error("the wrong flow was deleted")
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := ct.List(cancelled, false); err == nil {
		t.Error("list with a cancelled context: no error")
	}
}
