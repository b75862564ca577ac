package podstatus

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// BenchmarkPatch is the patch by which one of a pod's containers becomes ready.
func BenchmarkPatch(b *testing.B) {
	for _, n := range []int{1, 10, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			pod := &corev1.Pod{}
			for i := range n {
				pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{
					Name: fmt.Sprint(i), Image: "app:1", ContainerID: fmt.Sprintf("containerd://%064d", i),
					State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
				})
			}
			next := pod.Status.DeepCopy()
			next.ContainerStatuses[0].Ready = true
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Patch(pod, next); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
