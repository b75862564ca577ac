package logplan

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkMake is the rotation of one log in a directory of many files.
func BenchmarkMake(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			files := []string{"0.log"}
			for i := range n {
				files = append(files, "0.log."+noon.Add(-time.Duration(i+1)*time.Minute).Format("20060102-150405")+".gz")
			}
			b.ReportAllocs()
			for b.Loop() {
				Make("0.log", files, Policy{MaxSize: 1, MaxFiles: 5}, noon)
			}
		})
	}
}
