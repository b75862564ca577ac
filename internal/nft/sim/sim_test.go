package sim

import (
	"net/netip"
	"strings"
	"testing"
)

// TestUnknown: what is not known is followed both ways, and named.
func TestUnknown(t *testing.T) {
	rules := &Ruleset{Tables: []Table{{Family: Inet, Name: "t", Chains: []Chain{{
		Name: "c", Base: &Base{Hook: Forward},
		Rules: []Rule{{Handle: 7, Exprs: []Expr{XMatch{Name: "string"}, Verdict{Code: CodeDrop}}}},
	}}}}}
	w := World{Local: func(netip.Addr) bool { return false }}
	p := Packet{Src: netip.MustParseAddrPort("10.0.0.1:4000"), Dst: netip.MustParseAddrPort("10.0.0.2:80"), Proto: 6, In: "eth0"}
	ways, complete := Run(rules, w, p)
	var sum float64
	var text strings.Builder
	for _, o := range ways {
		sum += o.Weight
		text.WriteString(o.String() + "\n")
	}
	if !complete || len(ways) != 2 || sum != 1 ||
		!strings.Contains(text.String(), "dropped 10.0.0.2:80 by rule with handle 7 in chain c of table inet t unless [iptables match string]") {
		t.Errorf("complete %t, weights %f:\n%s", complete, sum, text.String())
	}
	// Too many unknown matches are given up, and that is said.
	c := &rules.Tables[0].Chains[0]
	for range 20 {
		c.Rules = append(c.Rules, Rule{Exprs: []Expr{Unknown{Name: "limit"}, Meta{Key: metaMark, Set: true}}})
	}
	if _, complete := Run(rules, w, p); complete {
		t.Error("a million ways were followed")
	}
}
