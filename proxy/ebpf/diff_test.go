package ebpf

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"nodelet/internal/golden"
	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
)

var config = &lb.Config{NodeName: "n1", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd44::/16")}}

const nodes = "node n1 192.168.7.1 fd07::1\nnode n2 192.168.8.2\n"

// memTable is a map in memory that calls after each single write.
type memTable[K comparable, V any] struct {
	m       map[K]V
	written func()
}

func (t memTable[K, V]) put(p *puts[K, V]) error {
	for i, k := range p.keys {
		t.m[k] = p.values[i]
		t.written()
	}
	return nil
}

func (t memTable[K, V]) remove(keys []K) error {
	for _, k := range keys {
		delete(t.m, k)
		t.written()
	}
	return nil
}

func newElements() *elements {
	return &elements{
		ranges: map[proxyRangeKey]uint32{}, members: map[proxyMemberKey]uint32{}, slots: map[proxySlotKey]proxyEndpoint{},
		ports: map[uint32]proxyPort{}, frontends: map[proxyFrontendKey]proxyFrontend{},
	}
}

func (e *elements) clone() *elements {
	return &elements{maps.Clone(e.ranges), maps.Clone(e.members), maps.Clone(e.slots), maps.Clone(e.ports), maps.Clone(e.frontends)}
}

// write writes edits element by element.
func (e *elements) write(t interface{ Fatal(...any) }, edits *edits, after func()) {
	err := edits.write(&tables{
		memTable[proxyRangeKey, uint32]{e.ranges, after}, memTable[proxyMemberKey, uint32]{e.members, after},
		memTable[proxySlotKey, proxyEndpoint]{e.slots, after}, memTable[uint32, proxyPort]{e.ports, after},
		memTable[proxyFrontendKey, proxyFrontend]{e.frontends, after},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// broken names a frontend that leads nowhere, or to somebody who is neither an
// old nor a new endpoint of its Service.
func (e *elements) broken(old, next *lb.State) string {
	for k, f := range e.frontends {
		fe := decodeFrontend(k)
		for _, how := range f.How {
			if proxyHow(how)&proxyHowHOW_ACTION != proxyHowHOW_BALANCE {
				continue
			}
			p, list := e.ports[f.Port], 0
			n := p.Slots
			if proxyHow(how)&proxyHowHOW_LOCAL != 0 {
				n, list = p.Local, 1
			}
			for i := range n {
				to, ok := e.slots[proxySlotKey{Port: f.Port, Slot: listBase(list) + i}]
				if !ok {
					return fmt.Sprintf("%s: slot %d of %d is empty", fe, i, n)
				}
				if a := decodeEndpoint(to).AddrPort; !leads(old, next, fe, a) {
					return fmt.Sprintf("%s leads to %s", fe, a)
				}
			}
			if n == 0 {
				return fmt.Sprintf("%s has no slots", fe)
			}
		}
	}
	return ""
}

// leads tells whether an endpoint is one of whom a frontend belonged or belongs to, before or after.
func leads(old, next *lb.State, f lb.Frontend, a netip.AddrPort) bool {
	for _, owner := range []*lb.State{old, next} {
		t, ok := owner.Lookup(f)
		if !ok {
			continue
		}
		for _, s := range []*lb.State{old, next} {
			now, _ := s.Lookup(nameOf(t.Port))
			if now.Port == nil {
				continue
			}
			for _, e := range slices.Concat(now.Cluster, now.Local) {
				if e.AddrPort == a {
					return true
				}
			}
		}
	}
	return false
}

// drawWorld changes some of three Services.
func drawWorld(t *rapid.T) string {
	var b strings.Builder
	for i := range 3 {
		name := fmt.Sprintf("d/s%d", i)
		if rapid.IntRange(0, 4).Draw(t, "gone") == 0 {
			fmt.Fprintf(&b, "delete service %s\n", name)
			continue
		}
		fmt.Fprintf(&b, "service %s LoadBalancer 10.96.0.%d,fd96::%d p:80/TCP[3000%d] q:53/UDP[3100%d] lb=1.2.3.4 extip=5.6.7.8", name, i, i, i, i)
		for _, o := range []string{"internal=local", "external=local", "affinity=1h", "ranges=192.168.7.0/28", "ranges=10.0.0.0/8,192.168.0.0/16"} {
			if rapid.IntRange(0, 3).Draw(t, o) == 0 {
				b.WriteString(" " + o)
			}
		}
		fmt.Fprintf(&b, "\nslice %s-4 of %s p:8080/TCP q:8080/UDP", name, name)
		for e := range 6 {
			if rapid.Bool().Draw(t, "endpoint") {
				fmt.Fprintf(&b, " 10.244.%d.%d=%s@n%d", i, e, rapid.SampledFrom([]string{"ready", "ready", "serving", "not-ready"}).Draw(t, "state"), 1+e%2)
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// TestKilledAnywhere: between any two writes every connection has an endpoint,
// and a daemon that starts there, with no memory, ends with what is wanted.
func TestKilledAnywhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := lbtest.MustParse(nodes)
		have, kernel := newContent(config), newElements()
		state := lb.Compile(config, w.Snapshot())
		for range rapid.IntRange(1, 3).Draw(t, "changes") {
			if err := w.Apply(drawWorld(t)); err != nil {
				t.Fatal(err)
			}
			next := lb.Advance(state, w.Snapshot())
			e := have.advance(state, next)
			var moments []*elements
			kernel.write(t, e, func() {
				if problem := kernel.broken(state, next); problem != "" {
					t.Fatalf("%s\nwhile writing\n%s", problem, e)
				}
				moments = append(moments, kernel.clone())
			})
			have.written(e)
			// Not from each of them, for the sake of time; over many runs from all.
			for i := rapid.IntRange(0, 6).Draw(t, "killed at"); i < len(moments); i += 7 {
				m := moments[i]
				fresh := contentOf(config, m)
				wanted := fresh.become(next, nil)
				m.write(t, diffElements(m, &wanted), func() {
					if problem := m.broken(state, next); problem != "" {
						t.Fatalf("%s after a restart", problem)
					}
				})
				check(t, fresh, m, next)
			}
			state = next
			kernel.ranges[encodeRange(podRanges, config.PodCIDRs[0])], kernel.ranges[encodeRange(podRanges, config.PodCIDRs[1])] = 1, 1
			check(t, have, kernel, next)
		}
	})
}

// check holds elements against what a fresh daemon would want, given the numbers and slots that are there.
func check(t *rapid.T, c *content, have *elements, want *lb.State) {
	again := contentOf(config, have)
	wanted := again.become(want, nil)
	if e := diffElements(have, &wanted); e.len() > 0 {
		t.Fatalf("a fresh daemon would still write\n%s", e)
	}
	for name, p := range c.pools {
		if q := again.pools[name]; q == nil || q.id != p.id {
			t.Fatalf("%s is port %d, and read back as %v", name, p.id, q)
		}
	}
}

// TestEdits shows what changes write; nobody reads this order but people.
func TestEdits(t *testing.T) {
	golden.Run(t, "testdata/edits.txtar", func(c *golden.Case) {
		w := lbtest.MustParse(nodes)
		have := newContent(config)
		state := lb.Compile(config, w.Snapshot())
		for change := range strings.Lines(c.Section("changes")) {
			change = strings.TrimSpace(change)
			if err := w.Apply(change); err != nil {
				t.Fatal(err)
			}
			next := lb.Advance(state, w.Snapshot())
			e := have.advance(state, next)
			have.written(e)
			c.Want(change, e.String())
			state = next
		}
	})
}
