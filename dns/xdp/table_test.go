package xdp

import (
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"nodelet/dns/zone"
)

// maps are the kernel's, and watch over the order of writes.
type maps struct {
	t     *rapid.T
	now   time.Time
	slots map[uint32]answerSlot
	names map[uint64]uint32
	left  map[uint32]time.Time // when the last name of a slot ceased to refer to it
}

func (m *maps) slot(i uint32) (answerSlot, error) { return m.slots[i], nil }

func (m *maps) putSlot(i uint32, s *answerSlot) error {
	for _, slot := range m.names {
		if slot == i {
			m.t.Fatalf("slot %d is written while a name refers to it", i)
		}
	}
	if at, ok := m.left[i]; ok && m.now.Sub(at) < grace {
		m.t.Fatalf("slot %d is written %s after a name referred to it", i, m.now.Sub(at))
	}
	m.slots[i] = *s
	return nil
}

func (m *maps) putName(h uint64, i uint32) error {
	if _, ok := m.slots[i]; !ok {
		m.t.Fatalf("slot %d is referred to before it is written", i)
	}
	m.leave(h)
	m.names[h] = i
	return nil
}

func (m *maps) dropName(h uint64) error {
	m.leave(h)
	delete(m.names, h)
	return nil
}

func (m *maps) leave(h uint64) {
	if i, ok := m.names[h]; ok {
		m.left[i] = m.now
	}
}

// TestTable: whatever changes, the maps hold the names that there are, each
// with its own answer, and nothing is overwritten that a packet may be reading.
func TestTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &maps{t: t, now: time.Unix(0, 0), slots: map[uint32]answerSlot{}, names: map[uint64]uint32{}, left: map[uint32]time.Time{}}
		capacity := rapid.Uint32Range(1, 30).Draw(t, "capacity")
		table := newTable(m, capacity)
		want := map[string][]zone.Packed{}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			m.now = m.now.Add(time.Duration(rapid.IntRange(0, 1500).Draw(t, "ms")) * time.Millisecond)
			key := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "service")
			var packed []zone.Packed
			for i := range rapid.IntRange(0, 3).Draw(t, "names") {
				name := fmt.Appendf(nil, "\x02%s%d\x00", key, i)
				body := make([]byte, 16*rapid.IntRange(0, 17).Draw(t, "records"))
				packed = append(packed, zone.Packed{Name: name, V4: zone.Records{Data: body, Answer: uint16(len(body) / 16)}})
			}
			if err := table.set(key, values(packed), m.now); err != nil {
				return // full: it is thrown away
			}
			want[key] = packed
			check(t, m, want)
		}
	})
}

func values(p []zone.Packed) iter.Seq[zone.Packed] { return slices.Values(p) }

func check(t *rapid.T, m *maps, want map[string][]zone.Packed) {
	n := 0
	for _, packed := range want {
		for _, p := range packed {
			n++
			words, _ := encodeName(p.Name)
			i, ok := m.names[hash(&words, len(p.Name))]
			if s := m.slots[i]; !ok || s.Name != words || s.Elsewhere == 0 && int(s.V4) != int(p.V4.Answer) {
				t.Fatalf("%q has slot %d: %+v", p.Name, i, s)
			}
		}
	}
	if n != len(m.names) {
		t.Fatalf("%d names in the kernel, want %d", len(m.names), n)
	}
}
