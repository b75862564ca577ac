package nftables_test

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"nodelet/internal/model"
	"nodelet/internal/netns"
	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
	"nodelet/proxy/nftables"
)

// TestReadBack breaks the rules one by one; what a packet to the frontend can
// meet is named, what it cannot is only counted.
func TestReadBack(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes a network namespace")
	}
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ns.Close() }()
	back, err := nftables.New(nftables.Config{NetNS: ns.Fd(), IPv6: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = back.Close() }()
	w := lbtest.MustParse(`node n1 192.168.0.1
service d/x NodePort 10.96.0.1 p:80/TCP[30080] affinity=1h
slice d/x of d/x p:8080/TCP 10.244.0.2=ready@n1 10.244.0.3=ready@n1
service d/y ClusterIP 10.96.0.2 p:80/TCP
slice d/y of d/y p:8080/TCP 10.244.0.4=ready@n1`)
	cfg := &lb.Config{NodeName: "n1", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}}
	state := lb.Compile(cfg, w.Snapshot())
	about := lb.Frontend{Addr: netip.MustParseAddr("10.96.0.1"), Proto: model.TCP, Port: 80}
	for _, c := range []struct {
		name, nft   string // what is done to the rules
		want        string // what a difference says
		elsewhere   bool
		differences int
	}{
		{"nothing", "list tables", "", false, 0},
		{"element deleted", "delete element ip nodelet-proxy endpoints { 0 . 10.96.0.1 . tcp . 80 }", "missing: map endpoints of table ip nodelet-proxy: 0 . 10.96.0.1 . 6 . 80 : 10.244.0.2 . 8080 (about one connection in 2", false, 1},
		{"another's element deleted", "delete element ip nodelet-proxy endpoints { 0 . 10.96.0.2 . tcp . 80 }", "", true, 0},
		{"element added", "add element ip nodelet-proxy endpoints { 7 . 10.96.0.1 . tcp . 80 : 9.9.9.9 . 99 }", "7 . 10.96.0.1 . 6 . 80 : 9.9.9.9 . 99", false, -1},
		{"member deleted", "delete element ip nodelet-proxy frontends { 10.96.0.1 . tcp . 80 }", "missing: set frontends", false, 1},
		{"table deleted", "delete table ip nodelet-proxy", "missing: table ip nodelet-proxy", false, 1},
		{"table asleep", "add table ip nodelet-proxy { flags dormant; }", "dormant", false, 1},
		{"rules flushed", "flush chain ip nodelet-proxy nat-postrouting", "missing: rule", false, 2},
		{"rule added", "insert rule ip nodelet-proxy services drop", "foreign: rule", false, 1},
		{"plan flushed", "flush chain ip nodelet-proxy any2-masqother-sticky", "missing: rule", false, 3},
		{"another's plan flushed", "flush chain ip nodelet-proxy any1-masqother", "", true, 0},
		{"affinity flushed", "flush chain ip nodelet-proxy remember", "affinity is not remembered", false, 2},
		{"affinity of the port flushed", "flush chain ip nodelet-proxy note-3600s-10.96.0.1-tcp-80", "affinity is not remembered", false, 1},
	} {
		back.Forget()
		if _, err := back.Apply(context.Background(), state); err != nil {
			t.Fatal(err)
		}
		err := ns.Do(func() error {
			out, err := exec.Command("nft", c.nft).CombinedOutput()
			if err != nil {
				t.Errorf("nft %s: %s", c.nft, out)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		got, err := back.ReadBack(context.Background(), state, about)
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		for _, d := range got.Differences {
			text.WriteString(d.String() + "\n")
		}
		if c.differences >= 0 && len(got.Differences) != c.differences || !strings.Contains(text.String(), c.want) || (got.Elsewhere > 0) != c.elsewhere {
			t.Errorf("%s: %d elsewhere,\n%s", c.name, got.Elsewhere, text.String())
		}
		if c.name == "nothing" && (len(got.Holds) < 4 || !strings.Contains(got.LastChange, "generation")) {
			t.Errorf("holds %q, %s", got.Holds, got.LastChange)
		}
	}
}
