package nodeplan

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// BenchmarkMake is one look at a node that is as it should be, with so many images.
func BenchmarkMake(b *testing.B) {
	for _, n := range []int{1, 10, 50} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			f := facts()
			ready(&f)
			for i := range n {
				f.Images = append(f.Images, corev1.ContainerImage{Names: []string{fmt.Sprintf("image-%d", i)}, SizeBytes: int64(i)})
			}
			old := Make(f, nil).Node
			b.ReportAllocs()
			for b.Loop() {
				Make(f, old)
			}
		})
	}
}
