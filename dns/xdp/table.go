package xdp

import (
	"errors"
	"iter"
	"slices"
	"time"

	"nodelet/dns/zone"
)

// grace is how long a slot that no name refers to any more is left as it is:
// far longer than the program, which may just have found it, can run.
const grace = time.Second

// errFull says that there is no slot left.
var errFull = errors.New("write DNS answers to the kernel: all slots are taken")

// writer reads and writes the maps.
type writer interface {
	slot(i uint32) (answerSlot, error)
	putSlot(i uint32, s *answerSlot) error
	putName(hash uint64, slot uint32) error
	dropName(hash uint64) error
}

// table knows which name has which slot.
type table struct {
	w        writer
	capacity uint32

	used    uint32 // slots that were ever taken
	free    []uint32
	resting []rest // the oldest first
	slots   map[uint64]uint32
	// services has the hashes of the names of each Service, by its key. Of two
	// names with one hash the first is here; the other's answers come from the socket.
	services map[string][]uint64
}

// rest is a slot that may be written again at a time.
type rest struct {
	slot uint32
	till time.Time
}

func newTable(w writer, capacity uint32) *table {
	return &table{w: w, capacity: capacity, slots: map[uint64]uint32{}, services: map[string][]uint64{}}
}

// set makes the names of one Service those of packed. After an error the table is of no use any more.
func (t *table) set(key string, packed iter.Seq[zone.Packed], now time.Time) error {
	old := t.services[key]
	var have []uint64
	for p := range packed {
		s, ok := encode(&p)
		if !ok {
			continue
		}
		h := hash(&s.Name, len(p.Name))
		before, taken := t.slots[h]
		if taken && !slices.Contains(old, h) || slices.Contains(have, h) {
			continue // of another name
		}
		if taken {
			// Most changes of endpoints change nothing at the Service's own name.
			if now, err := t.w.slot(before); err == nil && now == s {
				have = append(have, h)
				continue
			}
		}
		i, err := t.take(now)
		if err != nil {
			return err
		}
		if err := errors.Join(t.w.putSlot(i, &s), t.w.putName(h, i)); err != nil {
			return err
		}
		if taken {
			t.resting = append(t.resting, rest{before, now.Add(grace)})
		}
		t.slots[h] = i
		have = append(have, h)
	}
	for _, h := range old {
		if slices.Contains(have, h) {
			continue
		}
		if err := t.w.dropName(h); err != nil {
			return err
		}
		t.resting = append(t.resting, rest{t.slots[h], now.Add(grace)})
		delete(t.slots, h)
	}
	if len(have) == 0 {
		delete(t.services, key)
	} else {
		t.services[key] = have
	}
	return nil
}

// take gives a slot that nothing refers to.
func (t *table) take(now time.Time) (uint32, error) {
	for len(t.resting) > 0 && !now.Before(t.resting[0].till) {
		t.free = append(t.free, t.resting[0].slot)
		t.resting = t.resting[1:]
	}
	if n := len(t.free); n > 0 {
		i := t.free[n-1]
		t.free = t.free[:n-1]
		return i, nil
	}
	if t.used == t.capacity {
		return 0, errFull
	}
	t.used++
	return t.used - 1, nil
}
