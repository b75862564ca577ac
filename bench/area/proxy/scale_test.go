package proxy

import "testing"

func TestSlope(t *testing.T) {
	if s := slope([]float64{0, 1, 2, 3}, []float64{5, 7, 9, 11}); s < 1.999 || s > 2.001 {
		t.Errorf("slope of a line that rises by 2: %v", s)
	}
	if s := slope([]float64{1}, []float64{1}); s != 0 {
		t.Errorf("slope of one point: %v", s)
	}
}
