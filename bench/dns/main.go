package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"nodelet/bench/lab"
	"nodelet/bench/stubapi"
)

type options struct {
	services, seconds, rate, changes int
	out                              string
}

// result is what was measured of one server.
type result struct {
	Server string `json:"server"`
	// PerCPUSecond is queries answered per second of processor time of the server.
	PerCPUSecond float64 `json:"queriesPerCPUSecond"`
	PerSecond    float64 `json:"queriesPerSecond"`
	Lost         int     `json:"lost"`
	// P50 and P99 are of a client beside a load of Rate queries a second, in microseconds.
	Rate     int     `json:"rate"`
	Achieved float64 `json:"achieved"`
	P50      float64 `json:"p50us"`
	P99      float64 `json:"p99us"`
	// Empty and Full are anonymous memory without and with the Services, in bytes.
	Empty uint64 `json:"anonymousEmpty"`
	Full  uint64 `json:"anonymousFull"`
	RSS   uint64 `json:"rss"`
	// ChangeP50 and ChangeP99 are from the write of an EndpointSlice to the new answer, in microseconds.
	ChangeP50 float64 `json:"changeP50us"`
	ChangeP99 float64 `json:"changeP99us"`
}

func main() {
	var o options
	flag.IntVar(&o.services, "services", 10_000, "Services in the cluster")
	flag.IntVar(&o.seconds, "seconds", 5, "length of each run of dnsperf")
	flag.IntVar(&o.rate, "rate", 50_000, "queries a second beside which latency is measured")
	flag.IntVar(&o.changes, "changes", 100, "changes of an EndpointSlice to time")
	flag.StringVar(&o.out, "out", "", "file for the results as JSON")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "bench dns:", err)
		os.Exit(1)
	}
}

// start is how one server under comparison is started.
type start struct {
	name, addr string
	run        func(dir string, api *stubapi.Server, upstream string) (*lab.Process, error)
}

func run(o options) error {
	if _, err := exec.LookPath("dnsperf"); err != nil {
		return errors.New("dnsperf is not installed: apt-get install dnsperf")
	}
	if err := lab.Enter(); err != nil {
		return err
	}
	core := func(cache string) func(string, *stubapi.Server, string) (*lab.Process, error) {
		return func(dir string, api *stubapi.Server, upstream string) (*lab.Process, error) {
			return startCoreDNS(dir, api, upstream, cache)
		}
	}
	var results []result
	for _, s := range []start{
		{"nodelet", nodeletAddr, startNodelet},
		{"CoreDNS, kubeadm's Corefile", coreAddr, core(uncached)},
		{"CoreDNS, cache on", coreAddr, core(cached)},
	} {
		r, err := measure(o, s)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		results = append(results, *r)
		fmt.Println(r)
	}
	compare(results)
	if o.out == "" {
		return nil
	}
	b, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return os.WriteFile(o.out, b, 0o644)
}

// String is one line for people.
func (r *result) String() string {
	return fmt.Sprintf("%-28s %7.0f queries/CPU-s  %7.0f queries/s  lost %d  at %.0f/s p50 %.0f µs p99 %.0f µs  anon %.1f MB (+%.1f MB for the Services)  RSS %.1f MB  change p50 %.0f µs p99 %.0f µs",
		r.Server, r.PerCPUSecond, r.PerSecond, r.Lost, r.Achieved, r.P50, r.P99, mb(r.Full), mb(r.Full)-mb(r.Empty), mb(r.RSS), r.ChangeP50, r.ChangeP99)
}

func mb(n uint64) float64 { return float64(n) / 1e6 }

// compare prints the ratios that are promised.
func compare(r []result) {
	fmt.Printf("queries per CPU-second: %.1f x kubeadm's Corefile (goal 5), %.1f x cache on (goal 2.8)\n", r[0].PerCPUSecond/r[1].PerCPUSecond, r[0].PerCPUSecond/r[2].PerCPUSecond)
	fmt.Printf("p99 beside %d queries/s: %.2f of kubeadm's Corefile (goal 0.33), %.2f of cache on\n", r[0].Rate, r[0].P99/r[1].P99, r[0].P99/r[2].P99)
	fmt.Printf("memory for the Services: %.1f MB (goal 12); CoreDNS in all %.1f MB\n", mb(r[0].Full)-mb(r[0].Empty), mb(r[1].RSS))
	fmt.Printf("change to answer: p99 %.1f ms (goal 5)\n", r[0].ChangeP99/1000)
}

func measure(o options, s start) (*result, error) {
	dir, err := os.MkdirTemp("", "bench-dns-")
	if err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	defer os.RemoveAll(dir)
	r := &result{Server: s.name, Rate: o.rate}
	if r.Empty, _, err = emptyMemory(dir, s); err != nil {
		return nil, err
	}
	api, err := stubapi.Start()
	if err != nil {
		return nil, err
	}
	defer api.Close()
	w := newWorld(api, 1)
	if err := errors.Join(w.basics(), w.many(o.services)); err != nil {
		return nil, err
	}
	upstream, stop, err := startUpstream()
	if err != nil {
		return nil, err
	}
	defer stop()
	p, err := s.run(dir, api, upstream)
	if err != nil {
		return nil, err
	}
	defer p.Stop()
	time.Sleep(3 * time.Second) // the garbage of the start
	if r.Full, r.RSS, err = p.Memory(); err != nil {
		return nil, err
	}
	if err := r.changes(o, s, w); err != nil {
		return nil, err
	}
	names := filepath.Join(dir, "names")
	if err := os.WriteFile(names, []byte(queries(o.services)), 0o600); err != nil {
		return nil, fmt.Errorf("write names: %w", err)
	}
	return r, errors.Join(r.throughput(o, s, p, names), r.latency(o, s, names))
}

// emptyMemory is what the server takes with nothing but a cluster's basics.
func emptyMemory(dir string, s start) (anon, rss uint64, err error) {
	api, err := stubapi.Start()
	if err != nil {
		return 0, 0, err
	}
	defer api.Close()
	if err := newWorld(api, 1).basics(); err != nil {
		return 0, 0, err
	}
	p, err := s.run(dir, api, "127.0.0.9:9")
	if err != nil {
		return 0, 0, err
	}
	defer p.Stop()
	time.Sleep(2 * time.Second)
	return p.Memory()
}

// queries are the names that are asked for: the Services in an order that no cache line likes.
func queries(n int) string {
	var b strings.Builder
	for i := range n {
		j := i * 7919 % n
		fmt.Fprintf(&b, "svc-%d.ns-%d.svc.cluster.local A\n", j, j%100)
	}
	return b.String()
}

var (
	completed = regexp.MustCompile(`Queries completed:\s+(\d+)`)
	lost      = regexp.MustCompile(`Queries lost:\s+(\d+)`)
)

func perf(s start, names string, seconds int, extra ...string) *exec.Cmd {
	host, port, _ := net.SplitHostPort(s.addr)
	return exec.Command("dnsperf", append([]string{"-s", host, "-p", port, "-d", names, "-l", strconv.Itoa(seconds), "-c", "16"}, extra...)...)
}

func count(re *regexp.Regexp, out []byte) float64 {
	m := re.FindSubmatch(out)
	if m == nil {
		return 0
	}
	n, _ := strconv.ParseFloat(string(m[1]), 64)
	return n
}

// throughput runs dnsperf as fast as it can, and takes the server's processor time.
func (r *result) throughput(o options, s start, p *lab.Process, names string) error {
	if out, err := perf(s, names, 2, "-q", "400").CombinedOutput(); err != nil { // warm
		return fmt.Errorf("dnsperf: %w: %s", err, out)
	}
	before, err := p.CPU()
	if err != nil {
		return err
	}
	out, err := perf(s, names, o.seconds, "-q", "400").CombinedOutput()
	if err != nil {
		return fmt.Errorf("dnsperf: %w: %s", err, out)
	}
	after, err := p.CPU()
	if err != nil {
		return err
	}
	r.PerCPUSecond = count(completed, out) / (after - before).Seconds()
	r.PerSecond = count(completed, out) / float64(o.seconds)
	r.Lost = int(count(lost, out))
	return nil
}

// latency asks now and then beside a load of a fixed rate.
func (r *result) latency(o options, s start, names string) error {
	load := perf(s, names, o.seconds+2, "-q", "2000", "-Q", strconv.Itoa(o.rate))
	var text strings.Builder
	load.Stdout = &text
	if err := load.Start(); err != nil {
		return fmt.Errorf("dnsperf: %w", err)
	}
	time.Sleep(time.Second)
	var took []time.Duration
	for end := time.Now().Add(time.Duration(o.seconds) * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		began := time.Now()
		if _, err := ask("udp", s.addr, "svc-17.ns-17.svc.cluster.local.", dns.TypeA); err != nil {
			took = append(took, 2*time.Second) // its timeout
			continue
		}
		took = append(took, time.Since(began))
	}
	if err := load.Wait(); err != nil {
		return fmt.Errorf("dnsperf: %w", err)
	}
	r.P50, r.P99 = quantiles(took)
	r.Achieved = count(completed, []byte(text.String())) / float64(o.seconds+2)
	return nil
}

// changes times how long after the write of an EndpointSlice a headless Service's new address is answered.
func (r *result) changes(o options, s start, w *world) error {
	svc := service("default", "flips")
	svc.Spec.ClusterIP, svc.Spec.ClusterIPs = "None", []string{"None"}
	if err := w.api.Put(svc); err != nil {
		return err
	}
	conn, err := dns.Dial("udp", s.addr)
	if err != nil {
		return fmt.Errorf("reach %s: %w", s.addr, err)
	}
	defer conn.Close()
	var took []time.Duration
	for i, limit := 0, time.Now().Add(20*time.Second); i < o.changes && time.Now().Before(limit); i++ {
		slice := plainSlice("default", "flips", i+1)
		want := slice.Endpoints[0].Addresses[0]
		began := time.Now()
		if err := w.api.Put(slice); err != nil {
			return err
		}
		if err := untilAnswered(conn, want); err != nil {
			return err
		}
		took = append(took, time.Since(began))
	}
	r.ChangeP50, r.ChangeP99 = quantiles(took)
	return nil
}

func untilAnswered(conn *dns.Conn, want string) error {
	m := new(dns.Msg)
	m.SetQuestion("flips.default.svc.cluster.local.", dns.TypeA)
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); {
		_ = conn.SetDeadline(time.Now().Add(time.Second))
		if err := conn.WriteMsg(m); err != nil {
			return fmt.Errorf("ask: %w", err)
		}
		a, err := conn.ReadMsg()
		if err != nil {
			continue
		}
		for _, rr := range a.Answer {
			if x, ok := rr.(*dns.A); ok && x.A.String() == want {
				return nil
			}
		}
		time.Sleep(100 * time.Microsecond)
	}
	return fmt.Errorf("%s is not answered after a minute", want)
}

// quantiles are the median and the 99th percentile, in microseconds.
func quantiles(d []time.Duration) (p50, p99 float64) {
	if len(d) == 0 {
		return 0, 0
	}
	slices.Sort(d)
	us := func(i int) float64 { return float64(d[i].Nanoseconds()) / 1000 }
	return us(len(d) / 2), us(min(len(d)*99/100, len(d)-1))
}
