package nftables

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"nodelet/internal/nft"
	"nodelet/proxy/lb"
)

// ReadBack compares what the kernel holds about a frontend with what want
// says. It shares nothing with Apply but the connection, which takes turns.
func (b *Backend) ReadBack(ctx context.Context, want *lb.State, about lb.Frontend) (lb.Kernel, error) {
	k := lb.Kernel{Backend: "nftables", InRules: true}
	at := slices.IndexFunc(b.families, func(f *family) bool { return f.ipv6 == about.IPv6() })
	if at < 0 {
		return k, fmt.Errorf("read back %s: this kernel has no rules for its family", about)
	}
	f := b.families[at]
	g, err := b.conn.Generation(ctx)
	if err != nil {
		return k, err
	}
	k.LastChange = fmt.Sprintf("generation %d by pid %d (%s)", g.ID, g.PID, g.Program)
	found, err := b.conn.Read(ctx, f.table)
	if err != nil {
		return k, fmt.Errorf("read back table %s: %w", f.table, err)
	}
	c := contentOf(f, want.Config(), found)
	c.become(want)
	cmp := comparison{content: c, about: about, kernel: &k}
	return k, cmp.table(found, c.ruleset())
}

// comparison sorts the differences of a table by whether packets to one
// frontend can meet them.
type comparison struct {
	*content
	about  lb.Frontend
	kernel *lb.Kernel
}

func (c *comparison) differs(meets bool, d lb.Difference) {
	if !meets {
		c.kernel.Elsewhere++
		return
	}
	c.kernel.Differences = append(c.kernel.Differences, d)
}

func (c *comparison) table(found *nft.Found, want *nft.Ruleset) error {
	name := "table " + want.Table.String()
	if found == nil {
		c.differs(true, lb.Difference{Kind: lb.Missing, Object: name, Effect: "no packet to any Service is translated"})
		return nil
	}
	if found.Dormant {
		c.differs(true, lb.Difference{Kind: lb.Altered, Object: name + ": dormant", Effect: "no packet to any Service is translated"})
	}
	for i := range want.Chains {
		if err := c.chain(found.Chain(want.Chains[i].Name), &want.Chains[i]); err != nil {
			return err
		}
	}
	for i := range want.Sets {
		c.set(found.Set(want.Sets[i].Name), &want.Sets[i])
	}
	return nil
}

// meetsChain: every packet meets the chains that are always there; those of plans only their own frontends.
func (c *comparison) meetsChain(name string) bool {
	mine := c.rows[c.about].plan
	if use, ok := c.plans[mine]; ok && use.policy == external && (name == use.from(never).name() || name == use.from(always).name()) {
		return true
	}
	if _, keeps := c.keepers[name]; keeps {
		return c.leadsTo(name)
	}
	_, isPlan := c.plans[name]
	return !isPlan || name == mine
}

// leadsTo: packets to the frontend meet that chain, or the map that it needs.
func (c *comparison) leadsTo(name string) bool {
	return slices.ContainsFunc(c.memberships(nil, c.about, c.rows[c.about]), func(m membership) bool {
		k := c.keepers[m.chain]
		return k != nil && (m.chain == name || k.clients == name)
	})
}

func (c *comparison) chain(found *nft.FoundChain, want *nft.Chain) error {
	meets, name := c.meetsChain(want.Name), fmt.Sprintf("chain %s of table %s", want.Name, c.family.table)
	if found == nil {
		c.differs(meets, lb.Difference{Kind: lb.Missing, Object: name, Effect: chainEffect(want.Name)})
		return nil
	}
	if (found.Base == nil) != (want.Base == nil) || found.Base != nil && *found.Base != *want.Base {
		c.differs(meets, lb.Difference{Kind: lb.Altered, Object: name + ": hook, priority or policy", Effect: chainEffect(want.Name)})
	}
	rest := slices.Clone(found.Rules)
	for _, r := range want.Rules {
		d, err := nft.DigestOf(c.family.table.Family, r)
		if err != nil {
			return err
		}
		at := slices.IndexFunc(rest, func(f nft.FoundRule) bool { return f.Digest == d })
		if at < 0 {
			c.differs(c.meetsRule(r.Comment, meets), lb.Difference{Kind: lb.Missing, Object: fmt.Sprintf("rule %q of %s", r.String(), name), Effect: chainEffect(want.Name)})
			continue
		}
		rest = slices.Delete(rest, at, at+1)
	}
	for _, r := range rest {
		if r.Digest != (nft.Digest{}) && strings.HasSuffix(want.Name, chainBalance) {
			continue // ours, of a plan that nobody uses any more
		}
		c.differs(meets, lb.Difference{Kind: lb.Foreign, Object: fmt.Sprintf("rule with handle %d %q in %s", r.Handle, r.Comment, name), Effect: "it may do anything to packets"})
	}
	return nil
}

// meetsRule: the rules that lead to plans name them in their comments.
func (c *comparison) meetsRule(comment string, meetsChain bool) bool {
	if _, aPlan := c.plans[comment]; aPlan {
		return comment == c.rows[c.about].plan
	}
	return meetsChain
}

func (c *comparison) set(found *nft.FoundSet, want *nft.Set) {
	kind := "set "
	if want.IsMap() {
		kind = "map "
	}
	name := kind + want.Name + " of table " + c.family.table.String()
	if found == nil || !found.Is(want) {
		meets := !isPlan(want.Name) || want.Name == c.rows[c.about].plan
		if strings.HasPrefix(want.Name, mapClients) {
			meets = c.leadsTo(want.Name)
		}
		c.differs(meets, lb.Difference{Kind: lb.Missing, Object: name, Effect: c.setEffect(want.Name)})
		return
	}
	if want.Dynamic {
		return
	}
	have := make(map[string]*nft.Element, len(found.Elements))
	for i := range found.Elements {
		el := &found.Elements[i]
		have[el.ID()] = el
		if c.meetsElement(want.Name, el) {
			c.kernel.Holds = append(c.kernel.Holds, want.Name+" { "+want.Show(el)+" }")
		}
	}
	for i := range want.Elements {
		el := &want.Elements[i]
		d := lb.Difference{Kind: lb.Missing, Object: name + ": " + want.Show(el), Effect: c.setEffect(want.Name)}
		if old := have[el.ID()]; old != nil {
			delete(have, el.ID())
			if old.Same(el) {
				continue
			}
			d.Kind, d.Object = lb.Altered, d.Object+", found "+want.Show(old)
		}
		c.differs(c.meetsElement(want.Name, el), d)
	}
	for _, el := range have {
		c.differs(c.meetsElement(want.Name, el), lb.Difference{Kind: lb.Foreign, Object: name + ": " + want.Show(el), Effect: c.setEffect(want.Name)})
	}
}

// meetsElement tells whether an element is about the frontend.
func (c *comparison) meetsElement(set string, el *nft.Element) bool {
	nodePort := strings.HasPrefix(set, forNodePorts)
	switch strings.TrimPrefix(set, forNodePorts) {
	case setEndpoints:
		p, _, _, ok := c.decodeEndpoint(el, nodePort)
		return ok && p.Frontend == c.about
	case setClusterIPs, setElsewhere:
		return slices.Equal(el.Key, nft.Bytes(c.about.Addr))
	case setLoops:
		return c.isEndpoint(el)
	case setSources:
		n := len(el.Key) - c.bytes()
		if n < 0 {
			return false
		}
		f, ok := c.decodeFrontend(el.Key[:n], false)
		return ok && f == c.about
	}
	f, ok := c.decodeFrontend(el.Key, nodePort)
	return ok && f == c.about
}

// isEndpoint tells whether a loop's address is that of one of the frontend's endpoints.
func (c *comparison) isEndpoint(loop *nft.Element) bool {
	for _, local := range []bool{false, true} {
		for _, ep := range c.pools[pool{c.about, local}] {
			if slices.Equal(loop.Key, loopElement(ep.Addr()).Key) {
				return true
			}
		}
	}
	return false
}

func chainEffect(name string) string {
	switch name {
	case "nat-prerouting":
		return "packets from pods and from outside are not translated"
	case "nat-output":
		return "packets of this node itself are not translated"
	case "nat-postrouting":
		return "packets are not masqueraded: answers go past this node and are lost"
	case "filter-input", "filter-forward", "filter-output", chainFirst, chainReject:
		return "packets to frontends without endpoints are not refused, and affinity is not remembered"
	case chainRemember:
		return "affinity is not remembered"
	case chainMasquerade:
		return "packets from outside the pod network are not masqueraded: answers go past this node and are lost"
	}
	if strings.HasPrefix(name, mapNote+"-") || strings.HasPrefix(name, mapAgain+"-") {
		return "affinity is not remembered"
	}
	return "packets to these frontends are not translated"
}

func (c *comparison) setEffect(name string) string {
	bare := strings.TrimPrefix(name, forNodePorts)
	switch {
	case bare == setEndpoints:
		if n := max(len(c.pools[pool{c.about, false}]), len(c.pools[pool{c.about, true}])); n > 0 {
			return fmt.Sprintf("about one connection in %d is not translated and gets no answer", n)
		}
		return "some connections go to the wrong endpoint or nowhere"
	case bare == setSources:
		return "clients inside loadBalancerSourceRanges are dropped, or others let in"
	case bare == setLoops:
		return "an endpoint that reaches itself through the Service gets no answer"
	case bare == setElsewhere:
		return "packets to a cluster IP that another proxy serves are dropped"
	case bare == setClusterIPs, strings.HasPrefix(bare, "reject"):
		return "packets are not refused, so that clients wait for nothing"
	case bare == mapNote, bare == mapAgain, bare == mapAgainLocal, strings.HasPrefix(bare, mapClients):
		return "affinity is not remembered"
	}
	return "packets to the frontend are not translated"
}

// Rendered gives the table that a kernel without any would get, for a run
// without a kernel.
func Rendered(s *lb.State, ipv6 bool) *nft.Ruleset {
	c := newContent(familyOf(ipv6), s.Config())
	c.become(s)
	return c.ruleset()
}
