package gcplan

import (
	"fmt"
	"testing"
	"time"
)

func BenchmarkMake(b *testing.B) {
	for _, n := range []int{10, 100, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			f := facts()
			f.Images = nil
			for i := range n {
				f.Images = append(f.Images, Image{ID: fmt.Sprintf("image-%d", i), Seen: ago(20 * time.Hour), Used: ago(time.Duration(i*7919%n) * time.Second)})
			}
			b.ReportAllocs()
			for b.Loop() {
				Make(f)
			}
		})
	}
}
