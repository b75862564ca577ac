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

// Names of figures that only we have.
const (
	zoneWork = "work of the zone for one EndpointSlice of 10,000 services"
	inKernel = "processor time of one answer by XDP"
)

// inside measures what no client sees, with the benchmarks beside the code.
func inside(ctx context.Context, n *area.Node, t area.Turn) error {
	times := "2000x"
	if t.Quick {
		times = "20x"
	}
	for _, f := range []struct{ figure, dir, name, unit string }{
		{zoneWork, "./dns/zone", "^BenchmarkAdvanceOneOf10k$", "ns/op"},
		{inKernel, "./dns/xdp", "^BenchmarkProgram$/^A$", "ns/run"},
	} {
		cmd := exec.CommandContext(ctx, "go", "test", "-run=^$", "-bench="+f.name, "-benchtime="+times, f.dir)
		cmd.Dir = filepath.Dir(n.Bin)
		cmd.Env = append(os.Environ(), "GOWORK=off")
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("go test -bench=%s %s: %w: %s", f.name, f.dir, err, out)
		}
		m := regexp.MustCompile(`([0-9.]+) ` + f.unit).FindSubmatch(out)
		if m == nil {
			return fmt.Errorf("go test -bench=%s %s: no %s in %s", f.name, f.dir, f.unit, out)
		}
		ns, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			return fmt.Errorf("read %s: %w", f.figure, err)
		}
		n.Add(f.figure, t.Who, ns/1000)
	}
	return nil
}
