package evictplan

import (
	"fmt"
	"testing"
)

func BenchmarkMake(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			f := healthy(b)
			f.observe(MemoryAvailable, 10<<20)
			f.Pods = nil
			for i := range n {
				f.Pods = append(f.Pods, pod(fmt.Sprintf("pod-%d", i), int32(i%3), "100Mi", uint64(i)<<20))
			}
			b.ReportAllocs()
			for b.Loop() {
				Make(f)
			}
		})
	}
}
