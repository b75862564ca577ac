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

func (c *content) readPools(es []nft.Element, nodePort bool) {
	slots := map[pool]map[int]netip.AddrPort{}
	for i := range es {
		p, slot, to, ok := c.decodeEndpoint(&es[i], nodePort)
		if !ok {
			continue
		}
		if slots[p] == nil {
			slots[p] = map[int]netip.AddrPort{}
		}
		slots[p][slot] = to
	}
	for p, m := range slots {
		c.pools[p] = inOrder(m)
	}
}

// inOrder lists the slots; one that is missing, by somebody's hand, is left invalid.
func inOrder(m map[int]netip.AddrPort) []netip.AddrPort {
	last := 0
	for i := range m {
		last = max(last, i)
	}
	out := make([]netip.AddrPort, last+1)
	for i, a := range m {
		out[i] = a
	}
	return out
}
