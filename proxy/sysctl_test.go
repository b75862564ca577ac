package proxy

import (
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"nodelet/internal/netns"
)

func TestSysctls(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		cpus int
		want string
	}{
		{Config{}, 8, "[]"},
		{Config{Conntrack: DefaultConntrack()}, 2, "[{netfilter/nf_conntrack_max 131072 true} {netfilter/nf_conntrack_tcp_timeout_established 86400 false} {netfilter/nf_conntrack_tcp_timeout_close_wait 3600 false}]"},
		{Config{Conntrack: Conntrack{MaxPerCore: 32768, Min: 131072}}, 8, "[{netfilter/nf_conntrack_max 262144 true}]"},
		{Config{Conntrack: Conntrack{MaxPerCore: 32768}}, 256, "[{netfilter/nf_conntrack_max 1048576 true}]"},
		{Config{Conntrack: Conntrack{UDP: 30 * time.Second, UDPStream: time.Minute, TCPBeLiberal: true}}, 1,
			"[{netfilter/nf_conntrack_udp_timeout 30 false} {netfilter/nf_conntrack_udp_timeout_stream 60 false} {netfilter/nf_conntrack_tcp_be_liberal 1 false}]"},
		{Config{LocalhostNodePorts: true}, 1, "[{ipv4/conf/all/route_localnet 1 false}]"},
	} {
		if got := fmt.Sprint(c.cfg.sysctls(c.cpus)); got != c.want {
			t.Errorf("%+v on %d CPUs:\n%s, want\n%s", c.cfg, c.cpus, got, c.want)
		}
	}
}

func TestSysctlsInTheKernel(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	read := func(key string) (v string) {
		if err := ns.Do(func() (err error) { v, err = netns.ReadSysctl(key); return err }); err != nil {
			t.Skip(err)
		}
		return v
	}
	const key = "netfilter/nf_conntrack_udp_timeout"
	if before := read(key); before == "77" {
		t.Fatal("the kernel has the value by itself")
	}
	cfg := Config{NetNS: ns.Fd(), Conntrack: Conntrack{UDP: 77 * time.Second}}
	cfg.setSysctls(slog.New(slog.DiscardHandler))
	if got := read(key); got != "77" {
		t.Errorf("%s is %s", key, got)
	}
	if got := read(keyLocalnet); got != "0" {
		t.Errorf("%s is %s though nobody asked", keyLocalnet, got)
	}
	raise := sysctl{key: key, value: 50, raise: true}
	if changed, err := raise.apply(ns.Fd()); err != nil || changed || read(key) != "77" {
		t.Errorf("lowered to %s: %t %v", read(key), changed, err)
	}
}
