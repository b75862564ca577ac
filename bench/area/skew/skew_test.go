package skew

import "testing"

func TestCount(t *testing.T) {
	for out, want := range map[string]float64{
		"run specs\n14 passed, 0 failed, 0 skipped\nexit\n": 14, "FAIL x\n3 passed, 2 failed, 1 skipped\n": 3, "it broke\n": -1, "x 14 passed, 0 failed, 0 skipped\n": -1,
	} {
		if got, ok := count([]byte(out)); ok != (want >= 0) || ok && got != want {
			t.Errorf("%q: %v %t", out, got, ok)
		}
	}
}
