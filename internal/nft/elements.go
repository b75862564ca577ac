package nft

import (
	"bytes"
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Elements reads the elements of a set. Ranges come back with KeyEnd, as they were written.
func (c *Conn) Elements(ctx context.Context, t Table, set string) ([]Element, error) {
	ask := request(unix.NFT_MSG_GETSETELEM, t.Family, func(e *encoder) {
		e.str(unix.NFTA_SET_ELEM_LIST_TABLE, t.Name)
		e.str(unix.NFTA_SET_ELEM_LIST_SET, set)
	})
	var found []Element
	var ends []bool
	var memory Bulk
	err := c.dump(ctx, fmt.Sprintf("list elements of %s %s", t, set), ask, dumpHandler{
		restart: func() { found, ends = nil, nil },
		whole:   func() bool { return slices.Contains(ends, true) || !twice(found) },
		each: func(_ Family, b []byte) {
			attrs(b, func(typ uint16, v []byte) {
				if typ != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
					return
				}
				attrs(v, func(_ uint16, v []byte) {
					el, end := parseElement(v, &memory)
					found, ends = append(found, el), append(ends, end)
				})
			})
		},
	})
	if err != nil {
		return nil, err
	}
	return joinIntervals(found, ends), nil
}

// twice tells whether an element comes twice. The kernel lists a hash table in
// pieces and finds the beginning of the next one by counting; when the table
// grew in between, as it does in the background after many were added, some
// elements come twice and as many others not at all.
func twice(elements []Element) bool {
	var h maphash.Hash
	seen := make(map[uint64]struct{}, len(elements))
	for i := range elements {
		h.Reset()
		_, _ = h.Write(elements[i].Key)
		_, _ = h.Write(elements[i].KeyEnd)
		if _, ok := seen[h.Sum64()]; ok {
			return true
		}
		seen[h.Sum64()] = struct{}{}
	}
	return false
}

func parseElement(b []byte, memory *Bulk) (el Element, end bool) {
	value := func(v []byte) (out []byte) {
		attrs(v, func(typ uint16, v []byte) {
			if typ == unix.NFTA_DATA_VALUE {
				out = append(memory.Room(len(v)), v...)
			}
		})
		return out
	}
	attrs(b, func(typ uint16, v []byte) {
		switch typ {
		case unix.NFTA_SET_ELEM_KEY:
			el.Key = value(v)
		case elemKeyEnd:
			if el.KeyEnd = value(v); bytes.Equal(el.Key, el.KeyEnd) {
				el.KeyEnd = nil
			}
		case unix.NFTA_SET_ELEM_FLAGS:
			end = be32(v)&unix.NFT_SET_ELEM_INTERVAL_END != 0
		case unix.NFTA_SET_ELEM_EXPIRATION:
			el.Timeout = time.Duration(be64(v)) * time.Millisecond
		case unix.NFTA_SET_ELEM_DATA:
			el.Data = value(v)
			attrs(v, func(typ uint16, v []byte) {
				if typ == unix.NFTA_DATA_VERDICT {
					el.Do = parseVerdict(v)
				}
			})
		}
	})
	return el, end
}

func parseVerdict(b []byte) Action {
	var code int32
	var chain string
	attrs(b, func(typ uint16, v []byte) {
		switch typ {
		case unix.NFTA_VERDICT_CODE:
			code = int32(be32(v))
		case unix.NFTA_VERDICT_CHAIN:
			chain = cstr(v)
		}
	})
	return actionFromCode(code, chain)
}

// joinIntervals folds the elements that close a range of a set with one field
// into the ones that begin it, whatever the order in which the kernel lists them.
func joinIntervals(es []Element, isEnd []bool) []Element {
	if !slices.Contains(isEnd, true) {
		return es
	}
	var begins []Element
	var ends [][]byte
	for i, el := range es {
		if isEnd[i] {
			ends = append(ends, el.Key)
		} else {
			begins = append(begins, el)
		}
	}
	slices.SortFunc(ends, bytes.Compare)
	for i := range begins {
		el := &begins[i]
		// Ranges do not overlap: the first end behind the begin is its own.
		at, same := slices.BinarySearchFunc(ends, el.Key, bytes.Compare)
		if same {
			at++
		}
		el.KeyEnd = bytes.Repeat([]byte{0xff}, len(el.Key))
		if at < len(ends) {
			el.KeyEnd = before(ends[at])
		}
		if bytes.Equal(el.Key, el.KeyEnd) {
			el.KeyEnd = nil
		}
	}
	return begins
}

func before(key []byte) []byte {
	prev := bytes.Clone(key)
	for i := len(prev) - 1; i >= 0; i-- {
		prev[i]--
		if prev[i] != 0xff {
			break
		}
	}
	return prev
}
