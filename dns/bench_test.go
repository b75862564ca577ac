package dns

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"nodelet/internal/model"
)

// BenchmarkDNSPerf drives the server with dnsperf over 10,000 Service names and
// reports queries per CPU-second of this process, which other load on the
// machine does not change much, unlike queries per second.
func BenchmarkDNSPerf(b *testing.B) {
	perf, err := exec.LookPath("dnsperf")
	if err != nil {
		b.Skip("dnsperf is not installed: apt-get install dnsperf")
	}
	for _, cached := range []bool{false, true} {
		name := map[bool]string{false: "cluster", true: "cached"}[cached]
		b.Run(name, func(b *testing.B) {
			up := newScript(b, address("192.0.2.1", 300))
			s := start(b, func(c *Config) { c.Upstreams = resolversAt(up.addr) })
			var services []*model.Service
			const count = 10_000
			names := filepath.Join(b.TempDir(), "names")
			file, err := os.Create(names)
			if err != nil {
				b.Fatal(err)
			}
			for i := range count {
				svc := clusterIP(fmt.Sprintf("ns-%d/svc-%d", i%100, i), fmt.Sprintf("10.96.%d.%d", i>>8, i&255))
				services = append(services, svc)
				if cached {
					fmt.Fprintf(file, "www%d.example.com A\n", i%1000)
				} else {
					fmt.Fprintf(file, "svc-%d.ns-%d.svc.cluster.local A\n", i, i%100)
				}
			}
			file.Close()
			s.sync(services...)
			host, port, _ := net.SplitHostPort(s.addr)
			run := func(seconds string) []byte {
				out, err := exec.Command(perf, "-s", host, "-p", port, "-d", names, "-l", seconds, "-c", "16", "-q", "400").CombinedOutput()
				if err != nil {
					b.Fatalf("dnsperf: %v\n%s", err, out)
				}
				return out
			}
			if cached {
				run("1")
			}
			before, asked := cpu(b), replies(s)
			b.ResetTimer()
			out := run("4")
			used, answered := cpu(b)-before, replies(s)-asked
			lost := regexp.MustCompile(`Queries lost:\s+(\d+)`).FindSubmatch(out)
			b.ReportMetric(float64(answered)/used.Seconds(), "queries/cpu-s")
			b.ReportMetric(used.Seconds()*1e6/float64(answered), "cpu-µs/query")
			b.ReportMetric(float64(answered)/4, "queries/s")
			b.ReportMetric(0, "ns/op")
			if lost != nil {
				var n float64
				fmt.Sscan(string(lost[1]), &n)
				b.ReportMetric(n, "lost")
			}
		})
	}
}

func cpu(t testing.TB) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		t.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func replies(s *server) (n uint64) {
	for _, c := range s.Stats().Responses {
		n += c.Count
	}
	return n
}

// BenchmarkChangeToAnswer is the time from a commit to the store, at 10,000
// Services, to the zone that answers by it.
func BenchmarkChangeToAnswer(b *testing.B) {
	s := start(b, nil)
	var services []*model.Service
	for i := range 10_000 {
		services = append(services, clusterIP(fmt.Sprintf("ns-%d/svc-%d", i%100, i), fmt.Sprintf("10.96.%d.%d", i>>8, i&255)))
	}
	s.sync(services...)
	svc, sl := headless("default/db", 3)
	s.writers.Services.Set(svc.Key, svc)
	var took []time.Duration
	for b.Loop() {
		next := *sl
		began := time.Now()
		rev := s.writers.Slices.Set(sl.Key, &next)
		for s.Zone().Revision() < rev {
			runtime.Gosched()
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}
