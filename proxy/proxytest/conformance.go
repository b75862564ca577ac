package proxytest

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"nodelet/internal/model"
	"nodelet/internal/store"
	"nodelet/proxy"
	"nodelet/proxy/eval"
	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
	"nodelet/proxy/traffic"
)

// Open makes a back end for a network namespace.
type Open func(netns int) (proxy.Backend, error)

var podCIDRs = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd44::/16")}

const nodes = "node n1 192.168.7.1 192.168.8.1 fd07::1 fd08::1 pods=10.244.1.0/24,fd44:1::/64\nnode n2 192.168.8.2 fd08::2\n"

// bench is a lab with a proxy at work in it.
type bench struct {
	*Lab
	t     *testing.T
	subj  subject
	world *lbtest.World
	proxy *proxy.Proxy
	stop  func()
}

func newBench(t *testing.T, s subject, world string) *bench {
	t.Helper()
	b := &bench{Lab: NewLab(t), t: t, subj: s, world: lbtest.MustParse(nodes + world)}
	b.sockets, b.refusedByEPERM = s.sockets, s.refusedByEPERM
	if s.prepare != nil {
		s.prepare(b.Lab)
	}
	for _, name := range []string{"a", "b", "c", "r"} {
		b.Serve(b.Host(name), 8080)
	}
	b.stop = func() {}
	t.Cleanup(func() { b.stop() })
	b.start()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("state:\n%s\n%s", b.proxy.State(), b.Dump())
		}
	})
	return b
}

// start runs the proxy until stop, which leaves the kernel as it is.
func (b *bench) start() {
	b.t.Helper()
	back, err := b.subj.open(b.Node.NS.Fd())
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	b.proxy, err = proxy.New(ctx, proxy.Config{NodeName: "n1", PodCIDRs: podCIDRs, Local: b.subj.local, NetNS: b.Node.NS.Fd()}, proxy.Deps{
		Store: b.world.Store, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Backend: back,
	})
	if err != nil {
		cancel()
		b.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- b.proxy.Run(ctx) }()
	stopped := false
	b.stop = func() {
		if !stopped {
			stopped = true
			cancel()
			if err := <-done; err != nil {
				b.t.Error(err)
			}
		}
	}
	b.applied()
}

// applied waits until the kernel holds the world.
func (b *bench) applied() {
	b.t.Helper()
	deadline := time.After(patience)
	want := b.world.Snapshot().Revision
	for {
		snap := b.world.Snapshot()
		if snap.Applied[store.Proxy] >= want && b.proxy.State() != nil {
			return
		}
		select {
		case <-snap.Changed():
		case <-time.After(time.Millisecond): // a restarted proxy applies a revision that is noted already
		case <-deadline:
			b.t.Fatalf("revision %d is not applied after %s: %s", want, patience, b.proxy.Health())
		}
	}
}

// change applies lines and waits until the kernel holds them.
func (b *bench) change(lines string) {
	b.t.Helper()
	if err := b.world.Apply(lines); err != nil {
		b.t.Fatal(err)
	}
	b.applied()
}

// rounds is how often a balanced frontend is asked at least, and for each of its
// endpoints at most until all have been met: that one of four is not met by
// chance has a probability below 1 in 10^11.
const rounds = 24

// agree sends each packet ("a -> 10.96.0.1:80/TCP", from a host by name) and
// holds what happens against package eval.
func (b *bench) agree(probes ...string) {
	b.t.Helper()
	for _, line := range probes {
		from, dst, _ := strings.Cut(line, " -> ")
		h := b.Host(from)
		to, proto, ipv6 := parse(b.t, dst)
		p := eval.Packet{Src: b.source(h, to.Addr()), Dst: to, Proto: proto, From: b.sourceOf(h, ipv6), ToNode: b.ofNode(to.Addr())}
		want := eval.Eval(b.proxy.State(), p)
		if want.Outcome == eval.NoService {
			continue // what becomes of the packet is not the proxy's doing
		}
		if problem := b.compare(h, p, want); problem != "" {
			b.t.Errorf("%s (IPv6 %t)\n  eval: %s\n  kernel: %s", line, ipv6, want, problem)
		}
	}
}

func parse(t *testing.T, dst string) (netip.AddrPort, model.Protocol, bool) {
	t.Helper()
	p, err := lbtest.ParsePacket("node 127.0.0.1 -> " + dst)
	if err != nil {
		t.Fatal(err)
	}
	return p.Dst, p.Proto, p.Dst.Addr().Is6()
}

func (b *bench) sourceOf(h *Host, ipv6 bool) lb.Source {
	switch {
	case h == b.Node:
		return lb.FromNode
	case b.proxy.State().Config().IsLocal(h.IP(ipv6), h.link()):
		return lb.FromPod
	}
	return lb.FromOutside
}

// source is the address a host speaks with: a node that calls itself uses the address it calls.
func (b *bench) source(h *Host, to netip.Addr) netip.Addr {
	if h == b.Node && b.ofNode(to) {
		return to
	}
	return h.IP(to.Is6())
}

func (b *bench) ofNode(a netip.Addr) bool {
	return slices.Contains([]string{"192.168.7.1", "192.168.8.1", "fd07::1", "fd08::1"}, a.String())
}

// compare asks often enough and says what differs from the verdict.
func (b *bench) compare(h *Host, p eval.Packet, want eval.Verdict) string {
	n, wait := 3, patience
	switch {
	case want.Outcome == eval.Drop:
		n, wait = 1, silence
	case want.Outcome == eval.DNAT && len(want.Endpoints) > 1 && !want.Sticky:
		n = rounds
	}
	met := map[netip.Addr]bool{}
	balanced := want.Outcome == eval.DNAT && !want.Sticky
	for i := 0; i < n || balanced && len(met) < len(want.Endpoints) && i < rounds*len(want.Endpoints); i++ {
		got, err := b.Ask(h, p.Proto, p.Dst, wait)
		if err != nil {
			return err.Error()
		}
		if problem := b.judge(got, p, want, met); problem != "" {
			return problem
		}
	}
	if balanced {
		for _, e := range want.Endpoints {
			if !met[e.Addr()] {
				return fmt.Sprintf("never met %s in %d rounds", e, rounds*len(want.Endpoints))
			}
		}
	}
	return ""
}

func (b *bench) judge(got traffic.Answer, p eval.Packet, want eval.Verdict, met map[netip.Addr]bool) string {
	switch want.Outcome {
	case eval.Reject, eval.Drop:
		if got.Refused != (want.Outcome == eval.Reject) || got.Silent != (want.Outcome == eval.Drop) {
			return got.String()
		}
		return ""
	}
	if got.Server == "" {
		return got.String()
	}
	ip := b.Host(got.Server).IP(p.Dst.Addr().Is6())
	at := slices.IndexFunc(want.Endpoints, func(e netip.AddrPort) bool { return e.Addr() == ip })
	if at < 0 {
		return got.String() + ", which is not one of the endpoints"
	}
	met[ip] = true
	if masqueraded := got.Saw != p.Src; masqueraded != want.Masquerade[at] && p.From != lb.FromNode {
		return fmt.Sprintf("%s, masqueraded: %t", got, masqueraded)
	}
	if want.Masquerade[at] && !b.ofNode(got.Saw) {
		return fmt.Sprintf("%s, masqueraded as somebody who is not the node", got)
	}
	return ""
}

// who asks once and gives the server's name; anything else fails the test.
func (b *bench) who(from, dst string) string {
	b.t.Helper()
	to, proto, _ := parse(b.t, dst)
	got, err := b.Ask(b.Host(from), proto, to, patience)
	if err != nil || got.Server == "" {
		b.t.Fatalf("%s -> %s: %s %v", from, dst, got, err)
	}
	return got.Server
}
