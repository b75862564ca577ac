package dns

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"

	"nodelet/bench/area"
)

// Names of figures that are measured beside the code.
const (
	zoneWork = "work of the zone for one EndpointSlice of 10,000 services"
	zoneSize = "memory of the zone of 10,000 services"
	inKernel = "processor time of the program for one answer by XDP"
	// overVeth is the server's part of all processor time for a question over a
	// veth: what is left without that of a reply that is sent back unread. Of
	// CoreDNS it is what its process takes for one, as in perCPU.
	overVeth = "processor time of the server for one answer by XDP, softirq and all"
)

// inner is one figure out of a test or benchmark of the root module.
type inner struct {
	figure, dir string
	args, env   []string
	// value is what a line with it looks like; divisor brings it to the figure's unit.
	value   string
	divisor float64
}

func inners(quick bool) []inner {
	times := "-benchtime=2000x"
	if quick {
		times = "-benchtime=20x"
	}
	bench := func(name, times string) []string { return []string{"-run=^$", "-bench=" + name, times} }
	return []inner{
		{zoneWork, "./dns/zone", bench("^BenchmarkAdvanceOneOf10k$", times), nil, `([0-9.]+) ns/op`, 1000},
		{zoneSize, "./dns/zone", bench("^BenchmarkMemory10k$", "-benchtime=1x"), nil, `([0-9.]+) MB`, 1},
		{inKernel, "./dns/xdp", bench("^BenchmarkProgram$/^A$", times), nil, `([0-9.]+) ns/run`, 1000},
		{overVeth, "./dns", []string{"-run=^TestKernelXDPCost$", "-v", "-count=1"}, []string{"DNS_TEST_COST=1"}, `XDP: ([0-9.-]+) ns of it the server's`, 1000},
	}
}

// inside measures what no client sees, with the benchmarks beside the code.
func inside(ctx context.Context, n *area.Node, t area.Turn) error {
	for _, f := range inners(t.Quick) {
		cmd := exec.CommandContext(ctx, "go", append(append([]string{"test"}, f.args...), f.dir)...)
		cmd.Dir = filepath.Dir(n.Bin)
		cmd.Env = append(append(os.Environ(), "GOWORK=off"), f.env...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("go test %s %s: %w: %s", f.args, f.dir, err, out)
		}
		m := regexp.MustCompile(f.value).FindSubmatch(out)
		if m == nil {
			return fmt.Errorf("go test %s %s: no %s in %s", f.args, f.dir, f.value, out)
		}
		v, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			return fmt.Errorf("read %s: %w", f.figure, err)
		}
		n.Add(f.figure, t.Who, v/f.divisor)
	}
	return nil
}
