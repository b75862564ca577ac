package iptables

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"nodelet/proxy/lb"
)

// Rendered is what a State is in rules of one family, as iptables-save would
// print it of a kernel in which nobody else has any.
func Rendered(s *lb.State, ipv6 bool) []byte {
	c := contentOf(&renderer{ipv6: ipv6, cfg: s.Config()}, s)
	var b strings.Builder
	for i, table := range tables {
		b.WriteString("*" + table + "\n")
		seen := map[string]bool{}
		for _, j := range jumps() {
			if j.table == table && !seen[j.chain] {
				seen[j.chain] = true
				b.WriteString(":" + j.chain + " ACCEPT [0:0]\n")
			}
		}
		names := slices.Sorted(maps.Keys(c.chains[i]))
		for _, name := range names {
			b.WriteString(":" + name + " - [0:0]\n")
		}
		for _, j := range jumps() {
			if j.table == table {
				fmt.Fprintf(&b, "-A %s %s\n", j.chain, j.rule)
			}
		}
		for _, name := range names {
			for _, r := range c.chains[i][name] {
				fmt.Fprintf(&b, "-A %s %s\n", name, r)
			}
		}
		b.WriteString("COMMIT\n")
	}
	return []byte(b.String())
}

// contentOf is the content for a State, from nothing.
func contentOf(r *renderer, s *lb.State) *content {
	c := newContent(r)
	c.advance(nil, s)
	if len(c.members) == 0 { // no Services: the chains that are always there
		c.fillBuckets(nil, &touched{})
	}
	return c
}
