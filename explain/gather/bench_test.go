package gather_test

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

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/cni/ipam"
	"nodelet/cni/ruleset"
	"nodelet/explain"
	"nodelet/explain/gather"
	"nodelet/internal/model"
	"nodelet/internal/nft"
	"nodelet/internal/nl"
	"nodelet/internal/store"
	"nodelet/internal/xtables"
	"nodelet/proxy"
	"nodelet/proxy/ebpf"
	"nodelet/proxy/iptables"
	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
	"nodelet/proxy/nftables"
	"nodelet/proxy/proxytest"
	"nodelet/proxy/traffic"
)

var podCIDRs = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd44::/16")}

// bench is a node with pods, links, a proxy that has done its work, and the
// rules of the pod network: everything that explain looks at, for real.
type bench struct {
	*proxytest.Lab
	t     *testing.T
	world *lbtest.World
	proxy *proxy.Proxy
	// back reads back what the proxy has written.
	back explainer
	// pods has what nodelet-cni would have noted.
	pods []gather.Attachment
	stop map[string]func() // servers by host
}

// explainer is a back end that reads back.
type explainer interface {
	proxy.Backend
	proxy.Explainer
}

// open makes a back end for a network namespace.
type open func(netns int) (explainer, error)

func openNftables(netns int) (explainer, error) {
	return nftables.New(nftables.Config{NetNS: netns, IPv6: true})
}

func openIptables(v xtables.Variant) open {
	return func(netns int) (explainer, error) {
		return iptables.New(context.Background(), iptables.Config{NetNS: netns, IPv6: true, Variant: v})
	}
}

const base = `node n1 192.168.7.1 192.168.8.1 fd07::1 fd08::1
node n2 192.168.8.2 fd08::2
`

func newBench(t *testing.T, open open, c breakage) *bench {
	t.Helper()
	t.Setenv("XTABLES_LOCKFILE", filepath.Join(t.TempDir(), "lock"))
	cfg, world := c.config, c.world
	b := &bench{Lab: proxytest.NewLab(t), t: t, world: lbtest.MustParse(base + world), stop: map[string]func(){}}
	for _, name := range []string{"a", "b", "c", "r"} {
		b.stop[name] = b.Serve(b.Host(name), 8080)
	}
	b.attach()
	b.network()
	cfg.NodeName, cfg.PodCIDRs, cfg.NetNS = "n1", podCIDRs, b.Node.NS.Fd()
	var err error
	if cfg.Mode == proxy.EBPF {
		cfg.EBPF.NetNS = cfg.NetNS
		open = func(int) (explainer, error) { return ebpf.New(cfg.EBPF) }
	}
	if b.back, err = open(cfg.NetNS); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cfg.Mode == proxy.EBPF { // all benches share one cgroup: what this one has put there must not be in the next one's way
			_ = b.back.Cleanup(context.Background())
		}
		_ = b.back.Close()
	})
	b.run(cfg, open)
	return b
}

// attach notes the pods, in the store and as the plugin does, with the
// permanent neighbours that the plugin writes.
func (b *bench) attach() {
	b.t.Helper()
	for _, name := range []string{"a", "b", "c"} {
		h := b.Host(name)
		b.pods = append(b.pods, gather.Attachment{
			Pod: model.Key{Namespace: "d", Name: name}, Addrs: []netip.Addr{h.IP4, h.IP6}, Link: "veth" + name, IfName: "eth0",
			Netns: fmt.Sprintf("/proc/self/fd/%d", h.NS.Fd()),
		})
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: name, UID: types.UID(name), ResourceVersion: "1"}}
		pod.Status.Phase = corev1.PodRunning
		pod.Status.PodIPs = []corev1.PodIP{{IP: h.IP4.String()}, {IP: h.IP6.String()}}
		b.world.Pods.Set(model.UID(name), pod)
		b.in(h.NS.Fd(), func(inside *nl.Conn) error {
			end, err := inside.Link("eth0")
			if err != nil {
				return err
			}
			b.in(b.Node.NS.Fd(), func(c *nl.Conn) error {
				link, err := c.Link("veth" + name)
				if err != nil {
					return err
				}
				return c.SetNeigh(nl.Neigh{Link: link.Index, IP: h.IP4, MAC: end.MAC})
			})
			return nil
		})
	}
}

func (b *bench) in(fd int, fn func(*nl.Conn) error) {
	b.t.Helper()
	c, err := nl.OpenAt(fd)
	if err != nil {
		b.t.Fatal(err)
	}
	defer c.Close()
	if err := fn(c); err != nil {
		b.t.Fatal(err)
	}
}

// network writes the rules of the pod network.
func (b *bench) network() {
	b.t.Helper()
	conn, err := nft.Open(nft.Options{NetNS: b.Node.NS.Fd()})
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	rules := ruleset.Make(ruleset.Network{
		Pods:   []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")},
		Inside: append([]netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("192.168.8.0/24")}, podCIDRs...),
	}, []ipam.Lease{})
	if _, err := conn.Ensure(context.Background(), &rules); err != nil {
		b.t.Fatal(err)
	}
}

// run lets a proxy do its work once and stop, so that it repairs nothing.
func (b *bench) run(cfg proxy.Config, open open) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	back, err := open(cfg.NetNS)
	if err != nil {
		b.t.Fatal(err)
	}
	if b.proxy, err = proxy.New(ctx, cfg, proxy.Deps{Store: b.world.Store, Backend: back, Log: slog.New(slog.DiscardHandler)}); err != nil {
		b.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- b.proxy.Run(ctx) }()
	deadline := time.After(traffic.Patience)
	for want := b.world.Snapshot().Revision; b.world.Snapshot().Applied[store.Proxy] < want; {
		select {
		case <-b.world.Snapshot().Changed():
		case <-time.After(10 * time.Millisecond):
		case <-deadline:
			b.t.Fatalf("the proxy did not do its work: %s", b.proxy.Health())
		}
	}
	cancel()
	if err := <-done; err != nil {
		b.t.Fatal(err)
	}
}

// explain asks.
func (b *bench) explain(question string) explain.Answer {
	b.t.Helper()
	q, err := explain.Parse(question)
	if err != nil {
		b.t.Fatal(err)
	}
	facts, err := gather.Facts(context.Background(), gather.Config{
		NodeName: "n1", ClusterDomain: "cluster.local", ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")}, NetNS: b.Node.NS,
	}, gather.Deps{
		Store: b.world.Store, State: b.proxy.State, Describe: b.proxy.Describe,
		ReadBack: func(ctx context.Context, f lb.Frontend) (lb.Kernel, *lb.State, error) {
			k, err := b.back.ReadBack(ctx, b.proxy.State(), f)
			return k, b.proxy.State(), err
		},
		Attachments: func() ([]gather.Attachment, error) { return b.pods, nil },
	}, q)
	if err != nil {
		b.t.Fatal(err)
	}
	return explain.Explain(facts)
}

// try sends a packet "a -> 10.96.0.1:80/TCP" and says what came of it:
// "answers", "refused", "silence" or "error". Unless silence is what is
// expected, an answer may take its time on a busy machine.
func (b *bench) try(probe, want string) string {
	b.t.Helper()
	from, dst, _ := strings.Cut(probe, " -> ")
	p, err := lbtest.ParsePacket("node 127.0.0.1 -> " + dst)
	if err != nil {
		b.t.Fatal(err)
	}
	wait := traffic.Patience
	if want == "silence" {
		wait = 300 * time.Millisecond
	}
	got, err := b.Ask(b.Host(from), p.Proto, p.Dst, wait)
	switch {
	case err != nil:
		return "error"
	case got.Refused:
		return "refused"
	case got.Silent:
		return "silence"
	}
	return "answers"
}

// sh runs shell commands on the node.
func (b *bench) sh(commands string) { b.t.Helper(); b.Command("sh", "-ec", commands) }

// podSh runs shell commands in a pod or another host.
func (b *bench) podSh(host, commands string) {
	b.t.Helper()
	b.Command("nsenter", fmt.Sprintf("--net=/proc/%d/fd/%d", os.Getpid(), b.Host(host).NS.Fd()), "sh", "-ec", commands)
}
