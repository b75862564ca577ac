package volumeplan

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/model"
)

// BenchmarkMake is the plan of a pod with so many volumes.
func BenchmarkMake(b *testing.B) {
	for _, n := range []int{1, 10, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p := &corev1.Pod{}
			p.UID, p.Name, p.Namespace = "uid", "p", "ns"
			c := corev1.Container{Name: "c"}
			for i := range n {
				name := fmt.Sprintf("v%d", i)
				p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
				c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: name, MountPath: "/" + name})
			}
			p.Spec.Containers = []corev1.Container{c}
			f := Facts{Pod: p, Root: "/root", Config: func(model.ConfigKey) (*model.Config, bool) { return nil, false }}
			if plan, err := Make(f); err != nil || len(plan.Volumes) != n {
				b.Fatal(plan, err)
			}
			b.ReportAllocs()
			for b.Loop() {
				_, _ = Make(f)
			}
		})
	}
}
