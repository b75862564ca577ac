package nftables

import (
	"net/netip"
	"slices"
	"strings"

	"nodelet/internal/nft"
	"nodelet/proxy/lb"
)

// contentOf reads out of what was found in the kernel what only the kernel
// knows: which frontends there were, which slots their endpoints have, and in
// which order the rules of the plans are. All else is compared by nft.Diff.
func contentOf(f *family, cfg *lb.Config, found *nft.Found) *content {
	c := newContent(f, cfg)
	if found == nil {
		return c
	}
	for i := range found.Sets {
		s := &found.Sets[i]
		bare, nodePort := strings.CutPrefix(s.Name, forNodePorts)
		switch {
		case bare == setEndpoints:
			c.readPools(s.Elements, nodePort)
		case isPlan(s.Name):
			for _, el := range s.Elements {
				if fe, ok := f.decodeFrontend(el.Key, nodePort); ok {
					c.rows[fe] = row{plan: s.Name}
				}
			}
		}
	}
	c.dispatch[0], c.dispatch[1] = rulesOf(found, chainBalance), rulesOf(found, forNodePorts+chainBalance)
	return c
}

// rulesOf lists the rules of a chain by what their comments name, each once.
func rulesOf(found *nft.Found, chain string) (names []string) {
	if ch := found.Chain(chain); ch != nil {
		for _, r := range ch.Rules {
			if !slices.Contains(names, r.Comment) {
				names = append(names, r.Comment)
			}
		}
	}
	return names
}

// readPools puts endpoints into their slots; one that is missing, by somebody's hand, is left invalid.
func (c *content) readPools(es []nft.Element, nodePort bool) {
	for i := range es {
		p, slot, to, ok := c.decodeEndpoint(&es[i], nodePort)
		if !ok {
			continue
		}
		slots := c.pools[p]
		if n := slot + 1 - len(slots); n > 0 {
			slots = append(slots, make([]netip.AddrPort, n)...)
		}
		slots[slot] = to
		c.pools[p] = slots
	}
}
