package zone

import (
	"runtime"
	"testing"

	"github.com/miekg/dns"

	"nodelet/dns/wire"
	"nodelet/dns/zone/zonetest"
	"nodelet/internal/model"
)

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

func BenchmarkAnswer(b *testing.B) {
	z, err := Build(testConfig(), InputOf(zonetest.Big(10_000).Store.Snapshot()))
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
	z, err := Build(testConfig(), InputOf(zonetest.Big(10_000).Store.Snapshot()))
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
	w := zonetest.Big(10_000)
	z, err := Build(testConfig(), InputOf(w.Store.Snapshot()))
	if err != nil {
		b.Fatal(err)
	}
	svc := model.Key{Namespace: "ns-11", Name: "svc-4711"}
	key := model.Key{Namespace: "ns-11", Name: "svc-4711-abcde"}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		w.Writers.Slices.Set(key, zonetest.BigSlice(key, svc, 4711, i%2 == 0))
		in := InputOf(w.Store.Snapshot())
		b.StartTimer()
		z = z.Advance(in)
	}
}

func BenchmarkBuild10k(b *testing.B) {
	in := InputOf(zonetest.Big(10_000).Store.Snapshot())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Build(testConfig(), in); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMemory10k reports what a zone of 10,000 Services adds to the tables.
func BenchmarkMemory10k(b *testing.B) {
	in := InputOf(zonetest.Big(10_000).Store.Snapshot())
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
