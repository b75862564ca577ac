package ebpf

import (
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestMarksOfRange: each address of a range is in a block of it, as the programs find that.
func TestMarksOfRange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "address")
		a := netip.AddrFrom16([16]byte(b))
		first, bits := 52, 128
		if rapid.Bool().Draw(t, "four") {
			a, first, bits = netip.AddrFrom4([4]byte(b[:4])), 8, 32
		}
		p, err := a.Prefix(rapid.IntRange(first, bits).Draw(t, "bits"))
		if err != nil || a.Is4In6() {
			t.Skip(err)
		}
		marks, all := marksOfRange(p)
		if !all {
			t.Fatalf("%s has too many blocks", p)
		}
		mine := encodeAddr(a)
		if a.Is4() {
			four := a.As4()
			mine = encodeAddr(netip.AddrFrom4([4]byte{four[0], four[1], four[2] & 0xf0}))
		} else {
			mine.W[2], mine.W[3] = 0, 0
		}
		if !slices.Contains(marks, markOf(proxyMarkMARK_BLOCK, mine, 0)) {
			t.Errorf("the block of %s has no mark among those of %s", a, p)
		}
	})
	for _, large := range []string{"10.0.0.0/7", "0.0.0.0/0", "fd00::/51", "::/0"} {
		if _, all := marksOfRange(netip.MustParsePrefix(large)); all {
			t.Errorf("%s can be marked", large)
		}
	}
}
