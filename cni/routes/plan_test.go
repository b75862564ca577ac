package routes

import (
	"encoding/json"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"nodelet/internal/golden"
	"nodelet/internal/model"
)

func TestGolden(t *testing.T) {
	golden.Run(t, "testdata/*.txtar", func(c *golden.Case) {
		var in struct {
			Self      string
			Nodes     []*model.Node
			Connected []netip.Prefix
		}
		if err := json.Unmarshal([]byte(c.Section("in.json")), &in); err != nil {
			c.Fatal(err)
		}
		c.Want("plan", Make(in.Self, in.Nodes, in.Connected).String())
	})
}

// TestLaws: whatever nodes claim, no two routes overlap, none covers a network
// of the host, and the own pod CIDR is never routed away.
func TestLaws(t *testing.T) {
	prefix := rapid.Custom(func(t *rapid.T) netip.Prefix {
		b := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 10, 128}), 4, 4).Draw(t, "addr") // few, so that they overlap often
		return netip.PrefixFrom(netip.AddrFrom4([4]byte(b)), rapid.IntRange(0, 32).Draw(t, "bits")).Masked()
	})
	rapid.Check(t, func(t *rapid.T) {
		connected := rapid.SliceOfN(prefix, 0, 3).Draw(t, "connected")
		nodes := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) *model.Node {
			return &model.Node{Name: rapid.SampledFrom([]string{"a", "b", "c", "self"}).Draw(t, "name"),
				PodCIDRs: rapid.SliceOfN(prefix, 0, 2).Draw(t, "cidrs"), InternalIPs: []netip.Addr{prefix.Draw(t, "ip").Addr()}}
		}), 0, 6).Draw(t, "nodes")
		p := Make("self", nodes, connected)
		for i, r := range p.Routes {
			for _, c := range connected {
				if r.Dst.Overlaps(c) {
					t.Fatalf("%s covers %s", r, c)
				}
			}
			for _, q := range p.Routes[:i] {
				if r.Dst.Overlaps(q.Dst) {
					t.Fatalf("%s and %s overlap", r, q)
				}
			}
			if q := Make("self", nodes, connected); q.String() != p.String() {
				t.Fatalf("not the same twice")
			}
		}
	})
}
