package node

import "testing"

// Users hear of it when secrets in memory may come to lie on a disk, and only then.
func TestSwapWarning(t *testing.T) {
	for _, c := range []struct {
		bytes  uint64
		noSwap bool
		warned bool
	}{{0, false, false}, {0, true, false}, {1 << 30, true, false}, {1 << 30, false, true}} {
		if got := swapWarning(c.bytes, c.noSwap); (got != "") != c.warned {
			t.Errorf("%d bytes of swap, noswap %t: %q", c.bytes, c.noSwap, got)
		}
	}
}
