package ruleset

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"nodelet/cni/ipam"
	"nodelet/internal/golden"
	"nodelet/internal/nft"
)

func TestGolden(t *testing.T) {
	golden.Run(t, "testdata/*.txtar", func(c *golden.Case) {
		var in struct {
			Network Network
			Leases  []ipam.Lease
		}
		if err := json.Unmarshal([]byte(c.Section("in.json")), &in); err != nil {
			c.Fatal(err)
		}
		c.Want("table", text(Make(in.Network, in.Leases)))
	})
}

func text(rs nft.Ruleset) string {
	var b strings.Builder
	fmt.Fprintf(&b, "table %s\n", rs.Table)
	for _, s := range rs.Sets {
		if len(s.Elements) == 0 {
			continue
		}
		fmt.Fprintf(&b, "%s\n", s.String())
		for _, e := range s.Elements {
			fmt.Fprintf(&b, "  %x : %x\n", e.Key, e.Data)
		}
	}
	for _, c := range rs.Chains {
		fmt.Fprintf(&b, "chain %s", c.Name)
		if c.Base != nil {
			fmt.Fprintf(&b, " %s %s %d", c.Base.Type, c.Base.Hook, c.Base.Priority)
		}
		b.WriteString("\n")
		for _, r := range c.Rules {
			fmt.Fprintf(&b, "  %s\n", r)
		}
	}
	return b.String()
}
