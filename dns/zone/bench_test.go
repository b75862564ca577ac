package zone

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"github.com/miekg/dns"

	"nodelet/dns/wire"
	"nodelet/internal/model"
)

// bigWorld has n Services with two ready endpoints each.
func bigWorld(n int) *world {
	w := newWorld()
	services, list := map[model.Key]*model.Service{}, map[model.Key]*model.Slice{}
	for i := range n {
		k := model.Key{Namespace: fmt.Sprintf("ns-%d", i%100), Name: fmt.Sprintf("svc-%d", i)}
		services[k] = &model.Service{
			Key: k, ResourceVersion: "1", ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})},
			Ports: []model.ServicePort{{Name: "http", Protocol: model.TCP, Port: 80}},
		}
		sk := model.Key{Namespace: k.Namespace, Name: k.Name + "-abcde"}
		list[sk] = bigSlice(sk, k, i, true)
	}
	w.writers.Services.Replace(services)
	w.writers.Slices.Replace(list)
	return w
}

func bigSlice(key, svc model.Key, i int, ready bool) *model.Slice {
	return &model.Slice{
		Key: key, Service: svc, Ports: []model.SlicePort{{Name: "http", Protocol: model.TCP, Port: 8080}},
		Endpoints: []model.Endpoint{
			{Addr: netip.AddrFrom4([4]byte{10, 244, byte(i >> 7), byte(2 * i)}), Ready: true},
			{Addr: netip.AddrFrom4([4]byte{10, 244, byte(i >> 7), byte(2*i + 1)}), Ready: ready},
		},
	}
}

func packet(t testing.TB, name string, qtype uint16) []byte {
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), qtype)
	m.SetEdns0(1232, false)
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// questions are one of each kind of answer that the hot path gives.
var questions = map[string]struct {
	name  string
	qtype uint16
}{
	"A":        {"svc-4711.ns-11.svc.cluster.local", dns.TypeA},
	"NODATA":   {"svc-4711.ns-11.svc.cluster.local", dns.TypeAAAA},
	"NXDOMAIN": {"svc-4711.ns-11.svc.cluster.local.ns-11.svc.cluster.local", dns.TypeA},
	"SRV":      {"_http._tcp.svc-4711.ns-11.svc.cluster.local", dns.TypeSRV},
	"PTR":      {"103.18.96.10.in-addr.arpa", dns.TypePTR},
	"host":     {"10-244-36-206.svc-4711.ns-11.svc.cluster.local", dns.TypeA},
	"pod":      {"10-244-36-206.ns-11.pod.cluster.local", dns.TypeA},
	"outside":  {"www.example.com", dns.TypeA},
}

func BenchmarkAnswer(b *testing.B) {
	z, err := Build(testConfig(), bigWorld(10_000).input())
	if err != nil {
		b.Fatal(err)
	}
	for name, question := range questions {
		b.Run(name, func(b *testing.B) {
			in, out := packet(b, question.name, question.qtype), make([]byte, 0, wire.MaxTCP)
			q := new(wire.Query)
			b.ReportAllocs()
			for b.Loop() {
				q.Parse(in)
				z.Answer(out, q, Options{Limit: q.Limit(false)})
			}
		})
	}
}

// TestAnswerDoesNotAllocate keeps the benchmark's promise.
func TestAnswerDoesNotAllocate(t *testing.T) {
	z, err := Build(testConfig(), bigWorld(10_000).input())
	if err != nil {
		t.Fatal(err)
	}
	for name, question := range questions {
		in, out := packet(t, question.name, question.qtype), make([]byte, 0, wire.MaxTCP)
		q := new(wire.Query)
		if n := testing.AllocsPerRun(100, func() {
			q.Parse(in)
			z.Answer(out, q, Options{Limit: q.Limit(false)})
		}); n != 0 {
			t.Errorf("%s: %v allocations per query", name, n)
		}
	}
}

func BenchmarkAdvanceOneOf10k(b *testing.B) {
	w := bigWorld(10_000)
	z, err := Build(testConfig(), w.input())
	if err != nil {
		b.Fatal(err)
	}
	svc := model.Key{Namespace: "ns-11", Name: "svc-4711"}
	key := model.Key{Namespace: "ns-11", Name: "svc-4711-abcde"}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		w.writers.Slices.Set(key, bigSlice(key, svc, 4711, i%2 == 0))
		in := w.input()
		b.StartTimer()
		z = z.Advance(in)
	}
}

func BenchmarkBuild10k(b *testing.B) {
	in := bigWorld(10_000).input()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Build(testConfig(), in); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMemory10k reports what a zone of 10,000 Services adds to the tables.
func BenchmarkMemory10k(b *testing.B) {
	in := bigWorld(10_000).input()
	var before, after runtime.MemStats
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		z, err := Build(testConfig(), in)
		if err != nil {
			b.Fatal(err)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MB")
		runtime.KeepAlive(z)
	}
}
