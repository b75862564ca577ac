package cpuplan

import (
	"fmt"
	"testing"
)

// BenchmarkTake is half of a machine with two sockets, by its threads.
func BenchmarkTake(b *testing.B) {
	for _, n := range []int{8, 64, 512} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m := machine(2, n/4, 2)
			free, err := Parse(fmt.Sprintf("0-%d", n-1))
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := (Options{}).Take(m, free, n/2); !ok {
					b.Fatal("not enough")
				}
			}
		})
	}
}
