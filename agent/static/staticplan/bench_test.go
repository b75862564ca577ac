package staticplan

import (
	"fmt"
	"testing"
)

// BenchmarkNext is a look at manifests one of which has changed.
func BenchmarkNext(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var rows []Row
			var found []Found
			for i := range n {
				name := fmt.Sprintf("p%d", i)
				rows = append(rows, Row{pod(name, name), name})
				found = append(found, Found{Place: name, Pod: pod(name, name)})
			}
			found[n/2].Pod = pod("p", "other")
			b.ReportAllocs()
			for b.Loop() {
				Next(rows, found)
			}
		})
	}
}
