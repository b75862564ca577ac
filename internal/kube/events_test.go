package kube

import "testing"

func TestEventRate(t *testing.T) {
	for _, test := range []struct {
		rate Rate
		want int // of three at once
	}{{Rate{}, 3}, {Rate{PerSecond: 1, Burst: 2}, 2}, {Rate{PerSecond: 1}, 1}} {
		l, got := test.rate.limiter(), 0
		for range 3 {
			if l.TryAccept() {
				got++
			}
		}
		if got != test.want {
			t.Errorf("%+v lets %d of three through at once, want %d", test.rate, got, test.want)
		}
	}
}
