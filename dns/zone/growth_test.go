package zone

import (
	"fmt"
	"testing"

	"nodelet/dns/zone/zonetest"
	"nodelet/internal/model"
)

// BenchmarkGrowthBuild and BenchmarkGrowthAdvance show how the whole and one change grow with the cluster.
func BenchmarkGrowthBuild(b *testing.B) {
	for _, n := range []int{100, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			in := InputOf(zonetest.Big(n).Store.Snapshot())
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Build(testConfig(), in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkGrowthAdvance(b *testing.B) {
	for _, n := range []int{100, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := zonetest.Big(n)
			z, err := Build(testConfig(), InputOf(w.Store.Snapshot()))
			if err != nil {
				b.Fatal(err)
			}
			svc, key := model.Key{Namespace: "ns-11", Name: "svc-11"}, model.Key{Namespace: "ns-11", Name: "svc-11-abcde"}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				w.Writers.Slices.Set(key, zonetest.BigSlice(key, svc, 11, i%2 == 0))
				in := InputOf(w.Store.Snapshot())
				b.StartTimer()
				z = z.Advance(in)
			}
		})
	}
}
