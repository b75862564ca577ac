package maglev

import (
	"net/netip"
	"slices"
)

// DefaultSize is enough for ten endpoints that differ by one percent in what
// they get; a hundred endpoints want 16381.
const DefaultSize = 1021

// Sizes are the lengths that a table may have: primes, so that every endpoint's
// walk comes by every place.
var sizes = [...]int{251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131071}

// Sizes lists the lengths that a table may have.
func Sizes() []int { return slices.Clone(sizes[:]) }

// Table gives for each of size places the index of an endpoint. size is one of
// Sizes; of more endpoints than places the last in order get none. Endpoints
// must differ from one another.
func Table(size int, endpoints []netip.AddrPort) []int {
	if len(endpoints) == 0 {
		return nil
	}
	order := make([]int, len(endpoints))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return endpoints[a].Compare(endpoints[b]) })
	walks := make([]walk, len(order))
	for i, e := range order {
		walks[i] = walkOf(endpoints[e], size)
	}
	table := make([]int, size)
	for i := range table {
		table[i] = -1
	}
	for taken := 0; ; {
		for i := range walks {
			at := walks[i].next(size)
			for table[at] >= 0 {
				at = walks[i].next(size)
			}
			table[at] = order[i]
			if taken++; taken == size {
				return table
			}
		}
	}
}

// walk is the order in which an endpoint asks for places.
type walk struct{ at, step int }

func walkOf(e netip.AddrPort, size int) walk {
	return walk{at: int(hash(e, 1) % uint64(size)), step: int(hash(e, 2)%uint64(size-1)) + 1}
}

func (w *walk) next(size int) int {
	at := w.at
	w.at = (w.at + w.step) % size
	return at
}

// hash is FNV-1a of the address (IPv4 as mapped), port and seed, and the
// finalizer of SplitMix64, because the low bits of FNV alone are weak.
func hash(e netip.AddrPort, seed byte) uint64 {
	h := uint64(0xcbf29ce484222325)
	add := func(b byte) { h = (h ^ uint64(b)) * 0x100000001b3 }
	for _, b := range e.Addr().As16() {
		add(b)
	}
	add(byte(e.Port() >> 8))
	add(byte(e.Port()))
	add(seed)
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
