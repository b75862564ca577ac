package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// figure is one thing that is measured, over and over.
type figure struct {
	Name string `json:"name"`
	Unit string `json:"unit"`
	// Goal is the most it may be; 0 for none. Quantile says what of the values is compared with it: 0.5 is the median.
	Goal     float64   `json:"goal,omitempty"`
	Quantile float64   `json:"quantile"`
	Values   []float64 `json:"values"`
}

// figures are those of the project's plan for its first version, on a machine with 2 cores.
func figures() []*figure {
	return []*figure{
		{Name: "start, empty data directory, to Ready", Unit: "s", Goal: 3, Quantile: .5},
		{Name: "start, empty data directory, to the first DNS answer", Unit: "s", Goal: 2.5, Quantile: .5},
		{Name: "start, later, to Ready", Unit: "s", Goal: 2, Quantile: .5},
		{Name: "start, later, to the first DNS answer", Unit: "s", Quantile: .5},
		{Name: "one pod, API write to Ready", Unit: "s", Goal: .16, Quantile: .5},
		{Name: "one pod, raw CRI calls: the floor", Unit: "s", Quantile: .5},
		{Name: "one pod, API write to Ready, to the floor", Unit: "ratio", Goal: 1.15, Quantile: .5},
		{Name: "idle, node daemon, memory", Unit: "MB PSS", Goal: 110, Quantile: .5},
		{Name: "idle, control plane, memory", Unit: "MB PSS", Goal: 260, Quantile: .5},
		{Name: "idle, node daemon, CPU", Unit: "% of a core", Goal: 1, Quantile: .5},
		{Name: "idle, control plane, CPU", Unit: "% of a core", Goal: 4, Quantile: .5},
	}
}

// report is all that was measured.
type report struct {
	Machine facts     `json:"machine"`
	Loads   []string  `json:"loadBeforeEachRun"`
	Figures []*figure `json:"figures"`
}

func (r *report) add(name string, d time.Duration) { r.addValue(name, d.Seconds()) }

func (r *report) addValue(name string, v float64) {
	i := slices.IndexFunc(r.Figures, func(f *figure) bool { return f.Name == name })
	r.Figures[i].Values = append(r.Figures[i].Values, v)
}

// addRatio adds the ratio of two figures' medians.
func (r *report) addRatio(name, over, under string) {
	median := func(name string) float64 {
		i := slices.IndexFunc(r.Figures, func(f *figure) bool { return f.Name == name })
		return quantile(r.Figures[i].Values, .5)
	}
	r.addValue(name, median(over)/median(under))
}

// quantile gives the value that a share q of all values does not exceed.
func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	i := int(math.Ceil(q*float64(len(sorted)))) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}

// print writes the table.
func (r *report) print(w io.Writer) {
	m := r.Machine
	fmt.Fprintf(w, "%s, %d CPUs (%s), %.1f GB, Linux %s, %s, %s\n", m.Revision, m.CPUs, m.Model, m.MemoryGB, m.Kernel, m.Go, m.When)
	fmt.Fprintf(w, "load before each run: %s\n\n", strings.Join(r.Loads, "; "))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "figure\tn\tmin\tp50\tp99\tmax\tunit\tgoal\tmet")
	for _, f := range r.Figures {
		if len(f.Values) == 0 {
			continue
		}
		goal, met := "", ""
		if f.Goal > 0 {
			goal, met = fmt.Sprintf("p%.0f ≤ %g", 100*f.Quantile, f.Goal), "no"
			if quantile(f.Values, f.Quantile) <= f.Goal {
				met = "yes"
			}
		}
		fmt.Fprintf(t, "%s\t%d\t%.3g\t%.3g\t%.3g\t%.3g\t%s\t%s\t%s\n", f.Name, len(f.Values), quantile(f.Values, 0), quantile(f.Values, .5),
			quantile(f.Values, .99), quantile(f.Values, 1), f.Unit, goal, met)
	}
	_ = t.Flush() // to the terminal
}

func (r *report) write(file string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}

// facts are what figures depend on.
type facts struct {
	When     string  `json:"when"`
	Revision string  `json:"revision"`
	CPUs     int     `json:"cpus"`
	Model    string  `json:"cpuModel"`
	MemoryGB float64 `json:"memoryGB"`
	Kernel   string  `json:"kernel"`
	Go       string  `json:"go"`
}

func machine(bin string) facts {
	f := facts{When: time.Now().UTC().Format(time.RFC3339), CPUs: runtime.NumCPU(), Go: runtime.Version()}
	if out, err := exec.Command(filepath.Join(bin, "nodelet"), "--version").Output(); err == nil {
		f.Revision = strings.TrimSpace(string(out))
	}
	f.Model = field("/proc/cpuinfo", "model name")
	var kb float64
	if _, err := fmt.Sscanf(field("/proc/meminfo", "MemTotal"), "%f kB", &kb); err == nil {
		f.MemoryGB = kb * 1024 / 1e9
	}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		f.Kernel = strings.TrimSpace(string(b))
	}
	return f
}

// field gives the value after "name:" in a file of such lines.
func field(file, name string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// load is what else runs on the machine: the load averages over 1, 5 and 15 minutes.
func load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	f := strings.Fields(string(b))
	return strings.Join(f[:min(3, len(f))], " ")
}
