package result

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Facts are what figures depend on.
type Facts struct {
	When     string  `json:"when"`
	Revision string  `json:"revision"`
	CPUs     int     `json:"cpus"`
	Model    string  `json:"cpuModel"`
	MemoryGB float64 `json:"memoryGB"`
	Kernel   string  `json:"kernel"`
	Go       string  `json:"go"`
	// Programs are the versions of what takes part.
	Programs map[string]string `json:"programs"`
}

// String is one line for people.
func (f *Facts) String() string {
	return fmt.Sprintf("%s, %d CPUs (%s), %.1f GB, Linux %s, %s, %s", f.Revision, f.CPUs, f.Model, f.MemoryGB, f.Kernel, f.Go, f.When)
}

// Machine asks this machine; bin is the directory of nodelet's programs.
func Machine(bin string) Facts {
	f := Facts{When: time.Now().UTC().Format(time.RFC3339), CPUs: runtime.NumCPU(), Go: runtime.Version(), Programs: map[string]string{}}
	f.Revision = says(filepath.Join(bin, "nodelet"), "--version")
	f.Model = field("/proc/cpuinfo", "model name")
	var kb float64
	if _, err := fmt.Sscanf(field("/proc/meminfo", "MemTotal"), "%f kB", &kb); err == nil {
		f.MemoryGB = kb * 1024 / 1e9
	}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		f.Kernel = strings.TrimSpace(string(b))
	}
	for _, name := range []string{"containerd", "runc", "nft", "iptables"} {
		f.Programs[name] = says(name, "--version")
	}
	return f
}

// says is the first line of what a program prints; empty when there is none.
func says(name string, args ...string) string {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
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

// Load is the load averages over 1, 5 and 15 minutes.
func Load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	f := strings.Fields(string(b))
	return strings.Join(f[:min(3, len(f))], " ")
}

// Busy is the share of all CPUs that is in use during a time.
func Busy(over time.Duration) float64 {
	idle, all := ticks()
	time.Sleep(over)
	idle2, all2 := ticks()
	if all2 == all {
		return 0
	}
	return 1 - (idle2-idle)/(all2-all)
}

// ticks are the first line of /proc/stat: idle (with waiting for disks), and all.
func ticks() (idle, all float64) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	for i, field := range strings.Fields(line)[1:] {
		v, _ := strconv.ParseFloat(field, 64)
		all += v
		if i == 3 || i == 4 {
			idle += v
		}
	}
	return idle, all
}
