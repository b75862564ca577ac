package nftables

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"nodelet/internal/nft"
	"nodelet/proxy/lb"
)

// Session affinity is a matter of a port of a Service: whichever of its
// addresses a client calls, it is sent to the endpoint that it was sent to
// last. So each such port has a map of its clients by traffic policy, and
// chains that name it: a rule cannot use what it has found in one map as the
// key of another (see nft.Reg). Verdict maps lead there:
//
//	plan's chain   -> map again[-local]  frontend -> chain again-...  the client's endpoint, if it has one
//	first-packets  -> map note           frontend -> chain note-...   the endpoint it was sent to

// Names of the maps and chains of affinity, or what they begin with.
const (
	mapClients    = "clients" // -local, and the port
	mapAgain      = "again"
	mapAgainLocal = "again-local"
	mapNote       = "note"
)

// kept is what remembers the clients of one frontend's port.
type kept struct {
	// port names the port: its ClusterIP, protocol and number.
	port    string
	policy  policy
	timeout time.Duration
}

// keptBy gives the names for a Port.
func keptBy(p *lb.Port, by policy) kept {
	ip := strings.ReplaceAll(p.ClusterIP.Addr().String(), ":", ".") // nft's names know no colon
	return kept{fmt.Sprintf("%s-%s-%d", ip, strings.ToLower(p.Proto.String()), p.ClusterIP.Port()), by, p.Affinity}
}

func localName(name string, local bool) string {
	if local {
		return name + "-local"
	}
	return name
}

// clients names the map of the clients sent on by a policy.
func (k kept) clients(local bool) string { return localName(mapClients, local) + "-" + k.port }

// again names the chain that sends a client to where it was.
func (k kept) again(local bool) string { return localName(mapAgain, local) + "-" + k.port }

// note names the chain that notes where a client was sent. It says everything,
// so that equal names are equal chains.
func (k kept) note() string {
	by := map[policy]string{localOnly: "-local", external: "-external"}[k.policy]
	return fmt.Sprintf("%s%s-%ds-%s", mapNote, by, int(k.timeout/time.Second), k.port)
}

// uses tells which of the two policies send its clients on.
func (k kept) uses(local bool) bool {
	return k.policy == external || (k.policy == localOnly) == local
}

// membership is one set that a frontend is in; of a verdict map with the chain it leads to.
type membership struct{ set, chain string }

// keeping lists the verdict maps that a frontend is in: none when nothing remembers its clients.
func (k *kept) keeping(nodePort bool) (in []membership) {
	if k == nil {
		return nil
	}
	for _, local := range []bool{false, true} {
		if k.uses(local) {
			in = append(in, membership{named(nodePort, localName(mapAgain, local)), k.again(local)})
		}
	}
	return append(in, membership{named(nodePort, mapNote), k.note()})
}

// keeper is a chain of affinity and the map it needs.
type keeper struct {
	chain nft.Chain
	// clients is the map, empty for chains that note: those of again have it.
	clients string
	// uses counts the frontends that lead here.
	uses int
}

// needKept makes sure that a port's maps and chains are there.
func (c *content) needKept(e *edits, k kept, p *lb.Port) {
	for _, local := range []bool{false, true} {
		if !k.uses(local) {
			continue
		}
		_, known := c.keepers[k.again(local)]
		if !known {
			c.keep(e, keeper{chain: nft.Chain{Name: k.again(local), Rules: c.family.again(k.clients(local))}, clients: k.clients(local)})
		}
		to := p.Cluster
		if local {
			to = p.Local
		}
		c.keptTo[k.clients(local)] = to
		if known { // a new map has no clients to forget
			e.clients = append(e.clients, k.clients(local))
		}
	}
	if _, known := c.keepers[k.note()]; !known {
		c.keep(e, keeper{chain: nft.Chain{Name: k.note(), Rules: c.family.note(c.cfg, k)}})
	}
}

func (c *content) keep(e *edits, k keeper) {
	c.keepers[k.chain.Name] = &k
	if k.clients != "" {
		e.sets = append(e.sets, k.clients)
	}
	e.chains = append(e.chains, k.chain)
}

// countKept notes that a frontend leads to a chain of affinity, or no longer does.
func (c *content) countKept(m membership, n int) {
	if k := c.keepers[m.chain]; k != nil {
		k.uses += n
	}
}

// idleKeepers counts those that no frontend leads to any more. They cost
// memory, but no packet anything.
func (c *content) idleKeepers() (n int) {
	for _, k := range c.keepers {
		if k.uses <= 0 {
			n++
		}
	}
	return n
}

// again sends a client to the endpoint that a map has for it.
func (f *family) again(clients string) []nft.Rule {
	return []nft.Rule{rule("the client's endpoint", append([]nft.Stmt{nft.Load(0, nft.SrcAddr)}, f.dnat(clients)...))}
}

// note writes down, or begins the time anew, where a client was sent: the
// packet is on its way there, so it says it itself.
func (f *family) note(cfg *lb.Config, k kept) (rules []nft.Rule) {
	to := f.words
	update := func(local bool) []nft.Stmt {
		return []nft.Stmt{
			nft.Load(0, nft.SrcAddr), nft.Load(to, nft.DstAddr), nft.Load(to+f.words, nft.DstPort),
			nft.Update(k.clients(local), 0, to, k.timeout),
		}
	}
	if k.policy == external {
		for _, match := range append(f.fromPods(cfg), nft.FromLocal()) {
			rules = append(rules, rule("from inside", []nft.Stmt{match}, update(false), []nft.Stmt{nft.Return()}))
		}
	}
	return append(rules, rule("", update(k.policy != clusterWide)))
}

// ask is the rule of a plan's chain that looks for the client's endpoint.
func (f *family) ask(nodePort, local bool) []nft.Stmt {
	key, _ := f.load(0, nodePort)
	return append(key, nft.VerdictMap(named(nodePort, localName(mapAgain, local)), 0))
}

// remember are the rules that lead to the chains that note clients, by what
// was asked for.
func (f *family) remember() []nft.Rule {
	address := []nft.Stmt{
		nft.Load(0, nft.CtOriginalDst), nft.Load(f.words, nft.L4Proto), nft.Load(f.words+1, nft.CtOriginalDstPort), nft.VerdictMap(mapNote, 0),
	}
	nodePort := []nft.Stmt{nft.Load(0, nft.L4Proto), nft.Load(1, nft.CtOriginalDstPort), nft.VerdictMap(named(true, mapNote), 0)}
	return []nft.Rule{rule("", address), rule("node ports", nodePort)}
}

// forgetClients removes remembered clients whose endpoint has left. Nobody can
// be sent there any more but by being remembered, so after this none is.
func (b *Backend) forgetClients(ctx context.Context, c *content, maps []string) error {
	slices.Sort(maps)
	for _, name := range slices.Compact(maps) {
		clients, err := b.conn.Elements(ctx, c.table, name)
		if err != nil {
			b.Forget()
			return err
		}
		lost := c.lost(clients, c.keptTo[name])
		if len(lost) == 0 {
			continue
		}
		set := c.family.set(name)
		if err := b.conn.Expire(ctx, c.table, &set, lost); err != nil {
			b.Forget()
			return fmt.Errorf("forget clients of endpoints that left: %w", err)
		}
		b.generation = 0
	}
	return nil
}

// lost picks the clients whose endpoint is none of these.
func (f *family) lost(clients []nft.Element, now []lb.Endpoint) []nft.Element {
	there := make(map[netip.AddrPort]bool, len(now))
	for _, e := range now {
		there[e.AddrPort] = true
	}
	return slices.DeleteFunc(clients, func(el nft.Element) bool {
		to, ok := f.decodeTarget(el.Data)
		return !ok || there[to]
	})
}
