package gather_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"nodelet/proxy"
	"nodelet/proxy/ebpf"
)

// pins is where the maps and links of a bench are.
func pins(b *bench) string {
	b.t.Helper()
	found, err := b.back.(*ebpf.Backend).Residue(context.Background())
	if err != nil || len(found) == 0 {
		b.t.Fatalf("no pins: %v", err)
	}
	return strings.TrimPrefix(found[0], "BPF pin ") + "/v1"
}

func unpin(names ...string) func(*bench) {
	return func(b *bench) {
		b.t.Helper()
		for _, n := range names {
			if err := os.Remove(pins(b) + "/links/" + n); err != nil {
				b.t.Fatal(err)
			}
		}
	}
}

// empty removes all that a map holds.
func empty(name string) func(*bench) {
	return func(b *bench) {
		b.t.Helper()
		if err := ebpf.EmptyPinned(pins(b), name); err != nil {
			b.t.Fatal(err)
		}
	}
}

var inMaps = []breakage{
	{name: "frontends gone", world: service + here, do: empty("frontends"), question: "192.168.7.9 nodeport:30080", probe: "outside -> 192.168.7.1:30080/TCP", packet: "refused", cause: "missing: map frontends: *:30080/TCP"},
	{name: "slots gone", world: service + here, do: empty("slots"), question: "pod/d/c svc/d/x:53", probe: "c -> 10.96.0.1:53/UDP", packet: "refused", cause: "missing: map slots"},
	{name: "ports gone", world: service + here, do: empty("ports"), question: toX, probe: probeX, packet: "refused", cause: "missing: map ports"},
	{name: "addresses gone", world: service + here, do: empty("locals"), question: "192.168.7.9 nodeport:30080", probe: "outside -> 192.168.7.1:30080/TCP", packet: "refused", cause: "missing: map locals: 192.168.7.1"},
	{name: "links gone", world: service + here, do: empty("devices"), question: "192.168.7.9 nodeport:30080", probe: "outside -> 192.168.7.1:30080/TCP", packet: "silence", cause: "altered: map devices"},
	{name: "program off the cgroup", world: service + here, do: unpin("connect4"), question: "node svc/d/x:80", cause: "missing: program connect4 at cgroup"},
}

// TestBreakagesEBPF: the same questions in mode ebpf, and what can only break there.
func TestBreakagesEBPF(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes a cgroup and mounts a BPF file system")
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
	for group, cases := range map[string][]breakage{"healthy": healthy, "meaning": meaning, "maps": inMaps, "network": network} {
		for _, c := range cases {
			if slices.Contains([]string{"stale udp flow", "affinity to a dead endpoint"}, c.name) {
				continue // these are written into what mode nftables has
			}
			t.Run(group+"/"+strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
				c.config.Mode, c.config.EBPF = proxy.EBPF, box.Config(0)
				c.within = box.Within
				check(t, openNftables, group, c)
			})
		}
	}
}
