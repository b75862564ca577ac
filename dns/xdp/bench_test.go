package xdp

import (
	"fmt"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/miekg/dns"

	"nodelet/dns/zone"
	"nodelet/dns/zone/zonetest"
	"nodelet/internal/model"
)

// BenchmarkProgram is the program itself at 10,000 Services, without the
// device: the kernel runs it in a loop and puts its changes of the packet's
// length right in between.
func BenchmarkProgram(b *testing.B) {
	a := newAnswerer(b, newZone(b, zonetest.ParseSetting(b, ""), zonetest.Big(10_000)))
	for name, in := range map[string][]byte{
		"passed on": frame(question(b, "absent.ns-11.svc.cluster.local.", dns.TypeA), true),
		"not DNS":   frame(question(b, ".", dns.TypeA), true)[:42],
	} {
		b.Run(name, func(b *testing.B) {
			ret, took, err := a.kernel.objects.Answer.Benchmark(in, b.N, nil)
			if err != nil || ret != pass {
				b.Fatal(ret, err)
			}
			b.ReportMetric(float64(took.Nanoseconds()), "ns/run")
		})
	}
	stats, err := ebpf.EnableStats(0) // of run time
	if err != nil {
		b.Fatal(err)
	}
	defer stats.Close()
	// A packet that was answered is a reply, so each run needs a fresh one: a
	// call each, of which the kernel tells how long the program took.
	for name, in := range map[string][]byte{
		"A":      frame(question(b, "svc-4711.ns-11.svc.cluster.local.", dns.TypeA), true),
		"NODATA": frame(question(b, "svc-4711.ns-11.svc.cluster.local.", dns.TypeAAAA), true),
		"SRV":    frame(question(b, "_http._tcp.svc-4711.ns-11.svc.cluster.local.", dns.TypeSRV), true),
	} {
		b.Run(name, func(b *testing.B) {
			before := runtimeOf(b, a.kernel.objects.Answer)
			for range b.N {
				if ret, _, err := a.kernel.objects.Answer.Test(in); err != nil || ret != tx {
					b.Fatal(ret, err)
				}
			}
			b.ReportMetric(float64((runtimeOf(b, a.kernel.objects.Answer)-before).Nanoseconds())/float64(b.N), "ns/run")
		})
	}
}

// BenchmarkApply is one changed endpoint of a headless Service among 10,000
// others, until the kernel has it. It makes more changes a second than the
// spare slots are for, so the maps being made anew now and then is in it.
func BenchmarkApply(b *testing.B) {
	w := zonetest.Big(10_000)
	svc := model.Key{Namespace: "ns-11", Name: "svc-4711"}
	w.Writers.Services.Set(svc, &model.Service{Key: svc, Headless: true})
	z := newZone(b, zonetest.ParseSetting(b, ""), w)
	a := newAnswerer(b, z)
	key := model.Key{Namespace: "ns-11", Name: "svc-4711-abcde"}
	var took time.Duration
	for i := range b.N {
		w.Writers.Slices.Set(key, zonetest.BigSlice(key, svc, 4711, i%2 == 0))
		z = z.Advance(zone.InputOf(w.Store.Snapshot()))
		begin := time.Now()
		if err := a.Apply(z); err != nil {
			b.Fatal(err)
		}
		took += time.Since(begin)
	}
	b.ReportMetric(float64(took.Nanoseconds())/float64(b.N), "ns/apply")
}

// BenchmarkLoad is a whole zone of 10,000 Services written anew.
func BenchmarkLoad(b *testing.B) {
	z := newZone(b, zonetest.ParseSetting(b, ""), zonetest.Big(10_000))
	a := newAnswerer(b, z)
	for b.Loop() {
		k, err := a.load(z)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(memory(b, k.objects.Slots)+memory(b, k.objects.Names))/1e6, "MB")
		k.close()
	}
}

func memory(b *testing.B, m *ebpf.Map) uint64 {
	info, err := m.Info()
	if err != nil {
		b.Fatal(err)
	}
	n, _ := info.Memlock()
	return n
}

func runtimeOf(b *testing.B, p *ebpf.Program) time.Duration {
	stats, err := p.Stats()
	if err != nil {
		b.Fatal(fmt.Errorf("read what the program took: %w", err))
	}
	return stats.Runtime
}
