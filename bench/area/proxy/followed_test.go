package proxy

import (
	"fmt"
	"math"
	"testing"
)

func TestQuantileOf(t *testing.T) {
	all := []bucket{{1, 0}, {2, 10}, {4, 10}, {8, 20}, {math.Inf(1), 20}}
	for q, want := range map[float64]float64{.25: 1.5, .5: 2, .75: 6, 1: 8} {
		if got := quantileOf(all, q); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if got := quantileOf([]bucket{{1, 0}, {math.Inf(1), 3}}, .5); got != 1 {
		t.Errorf("of what no bucket holds: %v", got)
	}
	if got := quantileOf([]bucket{{1, 0}, {math.Inf(1), 0}}, .5); got != 0 {
		t.Errorf("of nothing: %v", got)
	}
}

// TestDerive: the growth is of the same round, and of those who were measured at both sizes.
func TestDerive(t *testing.T) {
	a := Area().Result()
	small, large := fmt.Sprintf(follow50, sizes[0]), fmt.Sprintf(follow50, topSize)
	for _, add := range []error{
		a.Add(small, nodeletBPF, 0, .5), a.Add(large, nodeletBPF, 0, .75),
		a.Add(small, nodeletNFT, 1, .2), a.Add(large, nodeletNFT, 1, .2), a.Add(large, nodeletIPT, 0, 9),
	} {
		if add != nil {
			t.Fatal(add)
		}
	}
	derive(a)
	got := fmt.Sprint(a.Figure(followGrows).Samples)
	if want := fmt.Sprint(map[string][][]float64{nodeletBPF: {{1.5}}, nodeletNFT: {nil, {1}}}); got != want {
		t.Errorf("growth %s, want %s", got, want)
	}
}
