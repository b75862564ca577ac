package iptables

import (
	"net/netip"
	"strings"
	"testing"

	"nodelet/internal/model"
	"nodelet/internal/xtables"
	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
)

// TestReadBack breaks the rules one by one; what a packet to the frontend can
// meet is named, what it cannot is only counted.
func TestReadBack(t *testing.T) {
	w := lbtest.MustParse(`node n1 192.168.0.1
service d/x ClusterIP 10.96.0.1 p:80/TCP
slice d/x of d/x p:8080/TCP 10.244.0.2=ready@n2 10.244.0.3=ready@n2
service d/y ClusterIP 10.96.0.2 p:80/TCP
slice d/y of d/y p:8080/TCP 10.244.0.4=ready@n2`)
	state := lb.Compile(config, w.Snapshot())
	about := lb.Frontend{Addr: netip.MustParseAddr("10.96.0.1"), Proto: model.TCP, Port: 80}
	target, _ := state.Lookup(about)
	other, _ := state.Lookup(lb.Frontend{Addr: netip.MustParseAddr("10.96.0.2"), Proto: model.TCP, Port: 80})
	for _, c := range []struct {
		name, lines string
		want        string // what a difference says
		elsewhere   bool
	}{
		{"nothing", "", "", false},
		{"endpoints flushed", "*nat\n:NDP-C-" + portID(target.Port) + " - [0:0]\nCOMMIT\n", "this rule is missing: -d 10.96.0.1/32 -j NDP-MASQ", false},
		{"another's flushed", "*nat\n:NDP-C-" + portID(other.Port) + " - [0:0]\nCOMMIT\n", "", true},
		{"frontend removed", "*nat\n:NDP-V-01 - [0:0]\nCOMMIT\n", "altered: iptables-legacy table nat chain NDP-V-01 (this rule is missing", false},
		{"rule added", "*filter\n-A NDP-FIRST -j DROP\nCOMMIT\n", "this rule is not ours: -j DROP", false},
		{"jump removed", "*nat\n-D PREROUTING -m comment --comment \"nodelet: Services\" -j NDP-SERVICES\nCOMMIT\n", "missing: iptables-legacy table nat: rule -A PREROUTING", false},
		{"chain added", "*nat\n:NDP-OLD - [0:0]\nCOMMIT\n", "", true},
	} {
		b, _ := inNamespace(t, xtables.Legacy)
		ctx := t.Context()
		if _, err := b.Apply(ctx, state); err != nil {
			t.Fatal(err)
		}
		if c.lines != "" {
			if err := b.families[0].bulk.Restore(ctx, []byte(c.lines)); err != nil {
				t.Fatal(err)
			}
		}
		k, err := b.ReadBack(ctx, state, about)
		if err != nil {
			t.Fatal(err)
		}
		var said []string
		for _, d := range k.Differences {
			said = append(said, d.String())
		}
		all := strings.Join(said, "\n")
		if (c.want == "") != (len(said) == 0) || !strings.Contains(all, c.want) || (k.Elsewhere > 0) != c.elsewhere {
			t.Errorf("%s: %q, elsewhere %d", c.name, all, k.Elsewhere)
		}
		if c.name == "nothing" && (len(k.Holds) != 4 || !strings.Contains(k.Holds[len(k.Holds)-1], "-d 10.96.0.1/32 -p tcp -m tcp --dport 80 -g NDP-C-")) {
			t.Errorf("holds:\n%s", strings.Join(k.Holds, "\n"))
		}
	}
}
