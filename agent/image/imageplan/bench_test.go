package imageplan

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// BenchmarkCredentials is the choice among the logins of one pull secret.
func BenchmarkCredentials(b *testing.B) {
	for _, n := range []int{1, 10, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var entries []string
			for i := range n {
				entries = append(entries, fmt.Sprintf("r%d.example=u%d", i, i))
			}
			get := secrets(map[string][]string{"s": entries})
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns"}}
			pod.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "s"}}
			b.ReportAllocs()
			for b.Loop() {
				Credentials(pod, "r0.example/app:1", get)
			}
		})
	}
}
