package shutdownplan

import (
	"fmt"
	"testing"
	"time"
)

func BenchmarkMake(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			f := Facts{Now: now, Periods: []Period{{0, 20 * time.Second}, {2_000_000_000, 10 * time.Second}}}
			for i := range n {
				f.Pods = append(f.Pods, Pod{Pod: pod(fmt.Sprint(i), int32(i%3*1_000_000_000), 30)})
			}
			b.ReportAllocs()
			for b.Loop() {
				Make(f)
			}
		})
	}
}
