package draplan

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/internal/model"
)

// BenchmarkPrepare is one more pod with one claim on a node of many records.
func BenchmarkPrepare(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			f := Facts{
				Pod:   &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "p"}},
				Needs: []Need{{Claim: "new"}}, Claims: map[string]*resourcev1.ResourceClaim{"new": claim("new", "un", "d")},
				Records: map[model.Key]Record{}, Boot: "now",
			}
			for i := range n {
				r := Record{Key: model.Key{Namespace: "ns", Name: fmt.Sprint(i)}, UID: model.UID(fmt.Sprint(i)), Pods: []model.UID{"a"}, Drivers: []string{"d"}, Boot: "now"}
				f.Records[r.Key] = r
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Prepare(f); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
