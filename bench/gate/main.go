// Command gate runs the micro benchmarks of the pure planners, shows how their
// cost grows with the number of objects, and fails when one allocates more than a
// saved run: `make bench-gate`. Times are shown and not judged, for they are the
// machine's; what is judged does not depend on it.
//
// A benchmark belongs to it by its form: BenchmarkX with one sub-benchmark for each
// size, named by the number, as in BenchmarkCompile/1000.
//
// Touches: the file it is told to, `go test`.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Slack is what allocations may grow before that is called a regression: maps grow at random moments, and a few
// operations carry what is allocated once.
const (
	slackShare = 1.10
	slackCount = 3
	slackBytes = 8 << 10
)

func main() {
	file := flag.String("base", "gate/base.json", "the saved run")
	update := flag.Bool("update", false, "save this run instead of comparing with it")
	all := flag.Bool("all", false, "also sizes above 10,000, and more time for each")
	flag.Parse()
	if err := run(*file, *update, *all); err != nil {
		fmt.Fprintln(os.Stderr, "gate:", err)
		os.Exit(1)
	}
}

// packages are those with such benchmarks, from the root of the repository.
func packages() []string {
	return []string{
		"./proxy/lb", "./proxy/eval", "./proxy/nftables", "./proxy/ebpf", "./proxy/iptables", "./proxy/ipvs", "./internal/nft/sim", "./explain",
		"./dns/zone", "./dns/corefile", "./cni/routes", "./agent/podplan", "./agent/podstatus", "./agent/admission", "./agent/volume/volumeplan",
		"./agent/nodestatus/nodeplan", "./agent/evict/evictplan", "./agent/image/gcplan", "./agent/image/imageplan", "./agent/logs/logplan",
		"./agent/static/staticplan", "./agent/shutdown/shutdownplan", "./agent/exclusive/cpuplan", "./agent/exclusive/deviceplan", "./agent/dra/draplan",
	}
}

// cost is that of one operation.
type cost struct {
	NS     float64 `json:"-"`
	Bytes  float64 `json:"bytes"`
	Allocs float64 `json:"allocs"`
}

// costs are by benchmark ("proxy/lb Compile") and size.
type costs map[string]map[int]cost

func run(file string, update, all bool) error {
	sizes, howLong := "^[0-9]{1,5}$", "5x"
	if all {
		sizes, howLong = "^[0-9]+$", "20x"
	}
	const planners = "^Benchmark(Compile|AdvanceOneSlice|Eval|PlanChange|PlanWhole|Make|GrowthBuild|GrowthAdvance|Explain|Decide|Take|Prepare|Next|Credentials|Parse|Run|Patch)$"
	args := append([]string{"test", "-tags", "no_btrfs,no_devmapper,no_zfs,osusergo,netgo", "-run", "^$", "-bench", planners + "/" + sizes,
		"-benchmem", "-benchtime", howLong}, packages()...)
	cmd := exec.Command("go", args...)
	cmd.Dir = ".."
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("run the benchmarks: %w\n%s", err, out)
	}
	now := parse(out)
	if len(now) == 0 {
		return errors.New("run the benchmarks: none has run")
	}
	show(now)
	if update {
		return save(file, now)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read the saved run: %w (-update makes one)", err)
	}
	base := costs{}
	if err := json.Unmarshal(text, &base); err != nil {
		return fmt.Errorf("read the saved run %s: %w", file, err)
	}
	return compare(base, now)
}

var line = regexp.MustCompile(`^Benchmark(\w+)/(\d+)(?:-\d+)?\s+\d+\s+([\d.]+) ns/op(.*)$`)

// parse reads the output of go test.
func parse(out []byte) costs {
	all := costs{}
	pkg := ""
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		if p, ok := strings.CutPrefix(s.Text(), "pkg: nodelet/"); ok {
			pkg = p
		}
		m := line.FindStringSubmatch(s.Text())
		if m == nil {
			continue
		}
		c := cost{}
		c.NS, _ = strconv.ParseFloat(m[3], 64)
		f := strings.Fields(m[4])
		for i := 0; i+1 < len(f); i += 2 {
			v, _ := strconv.ParseFloat(f[i], 64)
			switch f[i+1] {
			case "B/op":
				c.Bytes = v
			case "allocs/op":
				c.Allocs = v
			}
		}
		size, _ := strconv.Atoi(m[2])
		name := pkg + " " + m[1]
		if all[name] == nil {
			all[name] = map[int]cost{}
		}
		all[name][size] = c
	}
	return all
}

// show prints each benchmark by size. The last columns are by what power of the size time and allocations grow: 0 not at all, 1 in step.
func show(c costs) {
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "planner\tobjects\ttime\tbytes\tallocations\ttime grows by\tallocations by")
	for _, name := range slices.Sorted(maps.Keys(c)) {
		sizes := slices.Sorted(maps.Keys(c[name]))
		for i, n := range sizes {
			x := c[name][n]
			growth := "\t"
			if i == len(sizes)-1 && i > 0 {
				first := c[name][sizes[0]]
				growth = fmt.Sprintf("n^%.1f\tn^%.1f", power(first.NS, x.NS, sizes[0], n), power(first.Allocs, x.Allocs, sizes[0], n))
			}
			label := name
			if i > 0 {
				label = ""
			}
			fmt.Fprintf(t, "%s\t%d\t%s\t%.0f\t%.0f\t%s\n", label, n, duration(x.NS), x.Bytes, x.Allocs, growth)
		}
	}
	_ = t.Flush() // to the terminal
}

// power is by what power of the size a cost grows.
func power(first, last float64, from, to int) float64 {
	if first <= 0 || last <= 0 || from == to {
		return 0
	}
	return math.Log(last/first) / math.Log(float64(to)/float64(from))
}

func duration(ns float64) string {
	switch {
	case ns >= 1e6:
		return fmt.Sprintf("%.1f ms", ns/1e6)
	case ns >= 1e3:
		return fmt.Sprintf("%.1f µs", ns/1e3)
	default:
		return fmt.Sprintf("%.0f ns", ns)
	}
}

func save(file string, c costs) error {
	text, err := json.MarshalIndent(c, "", " ")
	if err != nil {
		return fmt.Errorf("save the run: %w", err)
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

// compare fails for every benchmark that allocates more than it did, and for those that have gone.
func compare(base, now costs) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(base)) {
		for _, n := range slices.Sorted(maps.Keys(base[name])) {
			was := base[name][n]
			is, ok := now[name][n]
			switch {
			case !ok:
				errs = append(errs, fmt.Errorf("%s at %d has not run; make bench-gate UPDATE=1 if it has gone for good", name, n))
			case is.Allocs > was.Allocs*slackShare+slackCount:
				errs = append(errs, fmt.Errorf("%s at %d: %.0f allocations, were %.0f", name, n, is.Allocs, was.Allocs))
			case is.Bytes > was.Bytes*slackShare+slackBytes:
				errs = append(errs, fmt.Errorf("%s at %d: %.0f bytes, were %.0f", name, n, is.Bytes, was.Bytes))
			}
		}
	}
	return errors.Join(errs...)
}
