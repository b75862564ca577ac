package deviceplan

import (
	"fmt"
	"testing"
)

// BenchmarkMake is the choice of half of the devices of a resource.
func BenchmarkMake(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := Request{Resource: "example.com/d", Need: n / 2, Known: true, Healthy: map[string]bool{}}
			var preferred []string
			for i := range n {
				id := fmt.Sprintf("d%04d", i)
				r.Healthy[id] = true
				preferred = append(preferred, id)
			}
			b.ReportAllocs()
			for b.Loop() {
				o, err := r.Check()
				if err != nil {
					b.Fatal(err)
				}
				o.Choose(preferred)
			}
		})
	}
}
