package ebpf

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"nodelet/internal/model"
	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
)

// boundedTable is a map in memory with room for so many elements.
type boundedTable[K comparable, V any] struct {
	memTable[K, V]
	most int
}

func (t boundedTable[K, V]) put(p *puts[K, V]) error {
	for i, k := range p.keys {
		if _, there := t.m[k]; !there && len(t.m) >= t.most {
			return unix.E2BIG
		}
		t.m[k] = p.values[i]
		t.written()
	}
	return nil
}

func (e *elements) bounded(most sizes, after func()) *tables {
	return &tables{
		boundedTable[proxyRangeKey, uint32]{memTable[proxyRangeKey, uint32]{e.ranges, after}, most.ranges},
		boundedTable[proxyMemberKey, uint32]{memTable[proxyMemberKey, uint32]{e.members, after}, most.members},
		boundedTable[proxySlotKey, proxyEndpoint]{memTable[proxySlotKey, proxyEndpoint]{e.slots, after}, most.slots},
		boundedTable[uint32, proxyPort]{memTable[uint32, proxyPort]{e.ports, after}, most.ports},
		boundedTable[proxyFrontendKey, proxyFrontend]{memTable[proxyFrontendKey, proxyFrontend]{e.frontends, after}, most.frontends},
	}
}

// TestFullMaps: whatever the sizes, each change can be written; what is there
// is whole and right at every moment, and what is not is refused, which is
// said. With room for all, nothing is.
func TestFullMaps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		some := rapid.IntRange(2, 24)
		limits := sizes{some.Draw(t, "ranges"), some.Draw(t, "members"), some.Draw(t, "slots"), rapid.IntRange(1, 6).Draw(t, "ports"), rapid.IntRange(6, 24).Draw(t, "frontends")}
		w := lbtest.MustParse(nodes)
		kernel, state := newElements(), lb.Compile(config, w.Snapshot())
		for range rapid.IntRange(1, 4).Draw(t, "changes") {
			if err := w.Apply(drawWorld(t)); err != nil {
				t.Fatal(err)
			}
			next := lb.Advance(state, w.Snapshot())
			_, e, refused := plan(kernel, next, limits)
			room := kernel.bounded(limits, func() {
				if problem := kernel.misleads(state, next); problem != "" {
					t.Fatalf("%s\nwhile writing\n%s", problem, e)
				}
			})
			write := e.write
			if name, _ := e.peak(kernel).over(limits); name != "" {
				found := kernel.clone()
				write = func(to *tables) error { return e.writeTight(to, found) }
			}
			if err := write(room); err != nil {
				t.Fatalf("limits %+v: %v\nwhile writing\n%s", limits, err, e)
			}
			if problem := kernel.broken(next, next); problem != "" {
				t.Fatal(problem)
			}
			kernel.whole(t, next, refused)
			state = next
		}
		if _, _, refused := plan(kernel, state, sizes{1000, 1000, 1000, 1000, 1000}); refused != nil {
			t.Fatalf("with room for all, refused: %v", refused.list())
		}
	})
}

// misleads is broken while there is no room: a slot may be missing when the
// first one is there, and a list may be empty, which is refused.
func (e *elements) misleads(old, next *lb.State) string {
	for k, f := range e.frontends {
		for list := range 2 {
			p := e.ports[f.Port]
			for i := range []uint32{p.Slots, p.Local}[list] {
				to, ok := e.slots[proxySlotKey{Port: f.Port, Slot: listBase(list) + i}]
				if a := decodeEndpoint(to).AddrPort; ok && proxyHow(f.How[0])&proxyHowHOW_ACTION == proxyHowHOW_BALANCE && !leads(old, next, decodeFrontend(k), a) {
					return fmt.Sprintf("%s leads to %s", decodeFrontend(k), a)
				}
			}
		}
	}
	return ""
}

// whole: a Port is there with all that it has, or not at all.
func (e *elements) whole(t *rapid.T, want *lb.State, refused refusals) {
	for f, target := range want.All() {
		_, no := refused[nameOf(target.Port)]
		if _, there := e.frontends[encodeFrontend(f)]; there == (no && target.Kind != lb.AnyPort) {
			t.Fatalf("%s: refused %t, in the maps %t", f, no, there)
		}
	}
	fresh := contentOf(config, e)
	wanted := fresh.become(want, refused)
	if left := diffElements(e, &wanted); left.len() > 0 {
		t.Fatalf("refused %v, and a fresh daemon would still write\n%s", refused.list(), left)
	}
}

// TestFullMap: a kernel's map that is full is named with its limit and the
// flag; what fitted goes on and changes, and when room returns all is there.
func TestFullMap(t *testing.T) {
	b, ctx := alone(t), t.Context()
	b.cfg.MapSizes = map[string]int{"slots": 16}
	w := lbtest.MustParse(nodes)
	apply := func(lines string) lb.Result {
		t.Helper()
		if err := w.Apply(lines); err != nil {
			t.Fatal(err)
		}
		r, err := b.Apply(ctx, lb.Compile(config, w.Snapshot()))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	service := func(name string, ip, endpoints int) string {
		text := fmt.Sprintf("service d/%s ClusterIP 10.96.0.%d p:80/TCP\nslice d/%s of d/%s p:8080/TCP", name, ip, name, name)
		for i := range endpoints {
			text += fmt.Sprintf(" 10.244.%d.%d=ready@n1", ip, i+1)
		}
		return text + "\n"
	}
	if r := apply(service("a", 1, 6) + service("b", 2, 6)); len(r.Refused) > 0 {
		t.Fatalf("refused while there is room: %v", r.Refused)
	}
	r := apply(service("aa", 3, 5))
	if len(r.Refused) != 1 || r.Refused[0].Service != (model.Key{Namespace: "d", Name: "aa"}) {
		t.Fatalf("refused: %v", r.Refused)
	}
	for _, word := range []string{"slots", "16", "--proxy-bpf-map-size=slots=32"} {
		if !strings.Contains(r.Refused[0].String(), word) {
			t.Errorf("%q does not say %q", r.Refused[0], word)
		}
	}
	held := func() *elements {
		t.Helper()
		m, err := b.Held()
		if err != nil {
			t.Fatal(err)
		}
		return &m.elements
	}
	if e := held(); len(e.slots) != 12 || len(e.ports) != 2 {
		t.Errorf("%d slots and %d ports; of the refused Service there is something", len(e.slots), len(e.ports))
	}
	// What fitted still follows its endpoints.
	apply("slice d/a of d/a p:8080/TCP 10.244.1.9=ready@n1 10.244.1.2=ready@n1 10.244.1.3=ready@n1 10.244.1.4=ready@n1 10.244.1.5=ready@n1 10.244.1.6=ready@n1")
	found := false
	for _, s := range held().slots {
		found = found || strings.HasPrefix(s.String(), "10.244.1.9")
	}
	if !found {
		t.Error("the change of a Service that fitted is not in the map")
	}
	if r := apply("delete slice d/b"); len(r.Refused) > 0 || len(held().slots) != 11 {
		t.Errorf("when room has returned, refused %v, %d slots", r.Refused, len(held().slots))
	}
	// One that takes the place of another, at once.
	if r := apply("delete service d/a\n" + service("c", 4, 11)); len(r.Refused) > 0 || len(held().slots) != 16 {
		t.Errorf("one for another: refused %v, %d slots", r.Refused, len(held().slots))
	}
}

// TestMapSizes names what is wrong.
func TestMapSizes(t *testing.T) {
	for name := range sized {
		if err := CheckMapSizes(map[string]int{name: 4096}); err != nil {
			t.Error(err)
		}
	}
	spec, err := specFor(1, map[string]int{"ports": 4096})
	if err != nil || spec.Maps["ports"].MaxEntries != 4096 || spec.Maps["counters"].MaxEntries != 4096 {
		t.Errorf("%v; counters do not follow ports", err)
	}
	for text, want := range map[string]map[string]int{
		"no eBPF map \"slot\" (known: clients, ":  {"slot": 100},
		"slots cannot have room for 1 elements":   {"slots": 1},
		"flows cannot have room for 999999999 el": {"flows": 999999999},
	} {
		if err := CheckMapSizes(want); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v: %v, want %q", want, err, text)
		}
	}
	if _, err := Detect(t.Context(), Config{Cgroup: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "--proxy-cgroup") {
		t.Errorf("a directory that is no cgroup: %v", err)
	}
}
