package maglev

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func drawEndpoints(t *rapid.T, most int) (out []netip.AddrPort) {
	seen := map[netip.AddrPort]bool{}
	for range rapid.IntRange(1, most).Draw(t, "endpoints") {
		a := netip.AddrFrom4([4]byte{10, 244, rapid.Byte().Draw(t, "net"), rapid.Byte().Draw(t, "host")})
		if rapid.Bool().Draw(t, "six") {
			a = netip.AddrFrom16([16]byte{0: 0xfd, 14: rapid.Byte().Draw(t, "net"), 15: rapid.Byte().Draw(t, "host")})
		}
		e := netip.AddrPortFrom(a, rapid.Uint16Range(1, 3).Draw(t, "port"))
		if !seen[e] {
			seen[e] = true
			out = append(out, e)
		}
	}
	return out
}

// names gives the table in endpoints.
func names(size int, endpoints []netip.AddrPort) []netip.AddrPort {
	var out []netip.AddrPort
	for _, i := range Table(size, endpoints) {
		out = append(out, endpoints[i])
	}
	return out
}

// TestLaws: even, independent of order, and all places filled.
func TestLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom(sizes[:4]).Draw(t, "size")
		endpoints := drawEndpoints(t, 40)
		table := names(size, endpoints)
		has := map[netip.AddrPort]int{}
		for _, e := range table {
			has[e]++
		}
		least, most := size, 0
		for _, e := range endpoints {
			least, most = min(least, has[e]), max(most, has[e])
		}
		if len(table) != size || most-least > 1 {
			t.Fatalf("%d places for %d endpoints: %d to %d each", len(table), len(endpoints), least, most)
		}
		shuffled := rapid.Permutation(endpoints).Draw(t, "order")
		if !slices.Equal(names(size, shuffled), table) {
			t.Fatalf("another order gives another table")
		}
	})
}

// TestDisruption: when one of n goes, its places are given to others; of the
// others' places few change. The paper measures a few percent where there are
// a hundred times as many places as endpoints.
func TestDisruption(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const size = 2039
		endpoints := drawEndpoints(t, 20)
		gone := endpoints[rapid.IntRange(0, len(endpoints)-1).Draw(t, "gone")]
		left := slices.DeleteFunc(slices.Clone(endpoints), func(e netip.AddrPort) bool { return e == gone })
		if len(left) == 0 {
			return
		}
		before, after := names(size, endpoints), names(size, left)
		moved := 0
		for i := range before {
			if after[i] == gone {
				t.Fatal("who has gone is still there")
			}
			if before[i] != gone && before[i] != after[i] {
				moved++
			}
		}
		if moved > size/5 {
			t.Fatalf("%d of %d places of others changed with %d endpoints", moved, size, len(endpoints))
		}
	})
}

// TestStaysTheSame: nodes of other versions have the same tables.
func TestStaysTheSame(t *testing.T) {
	var endpoints []netip.AddrPort
	for _, e := range []string{"10.244.1.2:8080", "10.244.1.3:8080", "10.244.2.2:8080", "[fd44:1::2]:53"} {
		endpoints = append(endpoints, netip.MustParseAddrPort(e))
	}
	if got := fmt.Sprint(Table(251, endpoints)[:32]); got != golden {
		t.Errorf("the table is\n%s, and was\n%s", got, golden)
	}
	if Table(251, nil) != nil {
		t.Error("without endpoints there is no table")
	}
}

const golden = "[1 1 1 0 3 2 0 2 1 0 3 3 0 2 0 2 3 3 0 2 0 2 0 3 3 0 0 2 0 2 3 3]"

func BenchmarkTable(b *testing.B) {
	var endpoints []netip.AddrPort
	for i := range 100 {
		endpoints = append(endpoints, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, 0, byte(i)}), 80))
	}
	for b.Loop() {
		Table(DefaultSize, endpoints)
	}
}
