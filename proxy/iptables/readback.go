package iptables

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"nodelet/proxy/lb"
)

// ReadBack compares what the kernel holds about a frontend with what want
// says. It shares nothing with Apply but the programs it runs.
func (b *Backend) ReadBack(ctx context.Context, want *lb.State, about lb.Frontend) (lb.Kernel, error) {
	k := lb.Kernel{Backend: "iptables", InRules: true}
	at := slices.IndexFunc(b.families, func(f *family) bool { return f.ipv6 == about.IPv6() })
	if at < 0 {
		return k, fmt.Errorf("read back %s: this kernel has no rules for its family", about)
	}
	f := b.families[at]
	c := contentOf(&renderer{ipv6: f.ipv6, liberal: b.cfg.TCPBeLiberal, cfg: want.Config()}, want)
	for i, table := range tables {
		text, err := f.bulk.Save(ctx, table)
		if err != nil {
			return k, err
		}
		r := reading{name: f.bulk.String() + " table " + table, kernel: &k, met: c.met(i, want, about)}
		there := parse(text)
		r.jumps(table, there.jumps)
		r.chains(there.chains, c.chains[i])
		r.holds(there.chains, about)
	}
	return k, nil
}

// met are the chains that packets to a frontend may meet in a table.
func (c *content) met(table int, want *lb.State, about lb.Frontend) map[string]bool {
	bucket := bucketOf(about)
	names := map[string]bool{bucket.chain(): true, bucket.parent(): true}
	for name := range c.r.constant()[table] {
		names[name] = true
	}
	names[chainServices], names[chainFirst] = table == nat, table == filter
	if t, ok := want.Lookup(about); ok && t.Usable && table == nat {
		for name := range c.r.portChains(t.Port) {
			names[name] = true
		}
	}
	return names
}

// reading compares one table.
type reading struct {
	name   string
	kernel *lb.Kernel
	met    map[string]bool
}

func (r *reading) differs(chain string, kind lb.DifferenceKind, effect string) {
	if !r.met[chain] || kind == lb.Foreign { // nothing of ours leads to a foreign chain
		r.kernel.Elsewhere++
		return
	}
	r.kernel.Differences = append(r.kernel.Differences, lb.Difference{Kind: kind, Object: r.name + " chain " + chain, Effect: effect})
}

func (r *reading) jumps(table string, have []string) {
	for _, j := range jumps() {
		if j.table == table && !slices.Contains(have, j.chain+" "+j.rule) {
			r.kernel.Differences = append(r.kernel.Differences, lb.Difference{
				Kind: lb.Missing, Object: fmt.Sprintf("%s: rule -A %s %s", r.name, j.chain, j.rule),
				Effect: "packets of " + j.chain + " do not meet the rules of Services",
			})
		}
	}
}

func (r *reading) chains(have, want rules) {
	for _, name := range slices.Sorted(maps.Keys(want)) {
		h, there := have[name]
		switch {
		case !there:
			r.differs(name, lb.Missing, "packets that should meet it are not translated or not refused")
		case !slices.Equal(h, want[name]):
			r.differs(name, lb.Altered, effectOf(h, want[name]))
		}
	}
	for name := range have {
		if _, wanted := want[name]; !wanted {
			r.differs(name, lb.Foreign, "")
		}
	}
}

// effectOf names the first rules that differ.
func effectOf(have, want []string) string {
	for _, w := range want {
		if !slices.Contains(have, w) {
			return "this rule is missing: " + w
		}
	}
	for _, h := range have {
		if !slices.Contains(want, h) {
			return "this rule is not ours: " + h
		}
	}
	return "the rules are in another order"
}

// holds lists the rules that name the frontend, and those of the chains they lead to.
func (r *reading) holds(have rules, about lb.Frontend) {
	is := "-d " + host(about.Addr) + " "
	if about.Proto != 0 {
		is = match(about) + " "
	}
	add := func(chain, rule string) { r.kernel.Holds = append(r.kernel.Holds, "-A "+chain+" "+rule) }
	for _, rule := range have[bucketOf(about).chain()] {
		if !strings.HasPrefix(rule, is) {
			continue
		}
		add(bucketOf(about).chain(), rule)
		fields := strings.Fields(rule)
		to := fields[len(fields)-1]
		for name := range have {
			// All chains of a port end in the same letters.
			if len(to) > len(prefix)+2 && name != bucketOf(about).chain() && strings.HasSuffix(name, to[len(prefix)+1:]) {
				for _, rule := range have[name] {
					add(name, rule)
				}
			}
		}
	}
	slices.Sort(r.kernel.Holds)
}
