package admission

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// BenchmarkDecide is the decision about one new pod on a node of many.
func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := world{Node: Node{Name: "n", Allocatable: list(int64(n+1)*10, int64(n+1)<<20)}, New: []corev1.Pod{small(n)}}
			w.Node.Allocatable[corev1.ResourcePods] = *resource.NewQuantity(int64(n+1), resource.DecimalSI)
			for i := range n {
				w.Pods = append(w.Pods, small(i))
			}
			snap := w.snapshot()
			b.ReportAllocs()
			for b.Loop() {
				Decide(snap, w.Node)
			}
		})
	}
}

// small asks for a hundredth of a processor and a mebibyte.
func small(i int) corev1.Pod {
	c := corev1.Container{Name: "c", Resources: corev1.ResourceRequirements{Requests: list(10, 1<<20)}}
	name := fmt.Sprintf("p%d", i)
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name), Generation: 1},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{c}},
	}
}
