package podplan

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/internal/model"
	"nodelet/proxy/lb/lbtest"
)

// BenchmarkMake is the plan of one new pod on a node with so many.
func BenchmarkMake(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := lbtest.New()
			w.Runtime.Replace(nil)
			for i := range n {
				p := &corev1.Pod{}
				p.Namespace, p.Name, p.UID = "ns", fmt.Sprintf("p%d", i), types.UID(fmt.Sprintf("uid-%d", i))
				p.Spec.Containers = []corev1.Container{{Name: "c", Image: "i"}}
				w.Pods.Set(model.UID(p.UID), p)
				w.Allocations.Set(model.UID(p.UID), &model.Allocation{})
			}
			f := Facts{UID: "uid-1", World: w.Snapshot(), Settings: &Settings{NodeName: "n1", RootDir: "/root", PodLogDir: "/logs", CgroupRoot: "/kubepods"}}
			if p := Make(f, now); p.Status == nil {
				b.Fatal(p)
			}
			b.ReportAllocs()
			for b.Loop() {
				Make(f, now)
			}
		})
	}
}
