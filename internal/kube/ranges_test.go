package kube

import (
	"fmt"
	"testing"
)

func TestSourceRangesNeverOpenByMistake(t *testing.T) {
	for _, c := range []struct {
		in   []string
		want string
	}{
		{nil, "[]"},
		{[]string{" 10.0.0.0/8", "fd00::/8\t"}, "[10.0.0.0/8 fd00::/8]"},
		{[]string{"10.1.2.3/8"}, "[10.0.0.0/8]"},
		{[]string{"nonsense"}, "[0.0.0.0/32 ::/128]"},
		{[]string{"10.0.0.0/33", "1.2.3.4/32"}, "[0.0.0.0/32 ::/128 1.2.3.4/32]"},
		{[]string{""}, "[0.0.0.0/32 ::/128]"},
		{[]string{"::ffff:10.0.0.0/104"}, "[10.0.0.0/8]"},
	} {
		if got := fmt.Sprint(sourceRanges(c.in)); got != c.want {
			t.Errorf("%q: %s, want %s", c.in, got, c.want)
		}
	}
}
