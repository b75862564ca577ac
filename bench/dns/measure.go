package dns

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"nodelet/bench/lab"
	"nodelet/internal/stubapi"
)

// options are how much is measured.
type options struct {
	services, seconds, rate, changes int
}

// result is what was measured of one server.
type measured struct {
	// perCPUSecond is queries answered per second of processor time of the server.
	perCPUSecond, perSecond float64
	// p50 and p99 are of a client beside a load of options.rate queries a second, in microseconds.
	p50, p99 float64
	// empty and full are anonymous memory without and with the Services, in bytes.
	empty, full, rss uint64
	// changeP50 and changeP99 are from the write of an EndpointSlice to the new answer, in microseconds.
	changeP50, changeP99 float64
}

// start is how one server under comparison is started.
type start struct {
	addr string
	run  func(dir string, api *stubapi.Server, upstream string) (*lab.Process, error)
}

func measureServer(dir string, o options, s start) (*measured, error) {
	var err error
	r := &measured{}
	if r.empty, _, err = emptyMemory(dir, s); err != nil {
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
	if r.full, r.rss, err = p.Memory(); err != nil {
		return nil, err
	}
	if err := r.changes(o, s, w); err != nil {
		return nil, err
	}
	return r, r.load(dir, o, s, p)
}

// load takes what is measured with questions alone.
func (r *measured) load(dir string, o options, s start, p *lab.Process) error {
	names := filepath.Join(dir, "names")
	if err := os.WriteFile(names, []byte(queries(o.services)), 0o600); err != nil {
		return fmt.Errorf("write names: %w", err)
	}
	return errors.Join(r.throughput(o, s, p, names), r.latency(o, s, names))
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

var completed = regexp.MustCompile(`Queries completed:\s+(\d+)`)

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
func (r *measured) throughput(o options, s start, p *lab.Process, names string) error {
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
	r.perCPUSecond = count(completed, out) / (after - before).Seconds()
	r.perSecond = count(completed, out) / float64(o.seconds)
	return nil
}

// latency asks now and then beside a load of a fixed rate.
func (r *measured) latency(o options, s start, names string) error {
	load := perf(s, names, o.seconds+2, "-q", "2000", "-Q", strconv.Itoa(o.rate))
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
	r.p50, r.p99 = quantiles(took)
	return nil
}

// changes times how long after the write of an EndpointSlice a headless Service's new address is answered.
func (r *measured) changes(o options, s start, w *world) error {
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
	r.changeP50, r.changeP99 = quantiles(took)
	return nil
}

func untilAnswered(conn *dns.Conn, want string) error {
	runtime.LockOSThread() // no other goroutine has to be found a thread meanwhile
	defer runtime.UnlockOSThread()
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
		pause()
	}
	return fmt.Errorf("%s is not answered after a minute", want)
}

// pause waits for 100 µs, in the kernel: time.Sleep would be about a millisecond,
// which is how precisely the Go scheduler waits when it has nothing else to do.
func pause() {
	_ = unix.Nanosleep(&unix.Timespec{Nsec: 100_000}, nil) // a signal only makes it shorter
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
