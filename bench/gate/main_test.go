package main

import (
	"strings"
	"testing"
)

const output = `goos: linux
pkg: nodelet/proxy/lb
BenchmarkCompile/10-2         	      10	      4804 ns/op	    1225 B/op	      13 allocs/op
BenchmarkCompile/1000-2       	      10	    480400 ns/op	  122500 B/op	    1300 allocs/op
PASS
pkg: nodelet/dns/zone
BenchmarkGrowthAdvance/100 	      10	     13.5 ns/op	       0 B/op	       0 allocs/op
`

func TestParse(t *testing.T) {
	got := parse([]byte(output))
	if c := got["proxy/lb Compile"][1000]; c.NS != 480400 || c.Bytes != 122500 || c.Allocs != 1300 {
		t.Errorf("Compile at 1000: %+v", c)
	}
	if c, ok := got["dns/zone GrowthAdvance"][100]; !ok || c.NS != 13.5 {
		t.Errorf("GrowthAdvance: %+v", got)
	}
	if p := power(4804, 480400, 10, 1000); p < .99 || p > 1.01 {
		t.Errorf("a hundred times as much for a hundred times as many is n^%.2f", p)
	}
}

func TestCompare(t *testing.T) {
	base := parse([]byte(output))
	if err := compare(base, parse([]byte(output))); err != nil {
		t.Errorf("the same run: %v", err)
	}
	for worse, want := range map[string]string{
		strings.ReplaceAll(output, "1300 allocs", "1600 allocs"): "proxy/lb Compile at 1000: 1600 allocations, were 1300",
		strings.ReplaceAll(output, "122500 B/op", "222500 B/op"): "222500 bytes, were 122500",
		strings.ReplaceAll(output, "GrowthAdvance", "Gone"):      "dns/zone GrowthAdvance at 100 has not run",
	} {
		if err := compare(base, parse([]byte(worse))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
