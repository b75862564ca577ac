package linkplan

import (
	"encoding/json"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"nodelet/internal/golden"
)

func TestGolden(t *testing.T) {
	golden.Run(t, "testdata/*.txtar", func(c *golden.Case) {
		var in struct {
			Request Request      `json:"request"`
			Network Network      `json:"network"`
			Addrs   []netip.Addr `json:"addrs"`
		}
		if err := json.Unmarshal([]byte(c.Section("in.json")), &in); err != nil {
			c.Fatal(err)
		}
		plan, err := Make(in.Request, in.Network, in.Addrs)
		got := plan.String()
		if err != nil {
			got = "error: " + err.Error() + "\n"
		}
		c.Want("plan", got)
	})
}

func TestNamesAndMACs(t *testing.T) {
	seen := map[string]Request{}
	rapid.Check(t, func(t *rapid.T) {
		r := Request{ContainerID: rapid.StringN(1, 64, 64).Draw(t, "id"), IfName: rapid.StringN(1, 15, 15).Draw(t, "if")}
		name := VethName(r)
		if len(name) != 15 {
			t.Fatalf("%q is no interface name", name)
		}
		if old, ok := seen[name]; ok && old != r {
			t.Fatalf("%v and %v are both %s", old, r, name)
		}
		seen[name] = r
		host, pod := macs(r)
		if host == pod || host[0]&3 != 2 || pod[0]&3 != 2 {
			t.Fatalf("mac addresses %s and %s", host, pod)
		}
	})
}
