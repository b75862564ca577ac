package stats

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"nodelet/internal/cgroup"
)

// Node measures the machine as a whole.
func (s *Stats) Node(ctx context.Context, depth Depth) Node {
	now := time.Now()
	if depth == Memory {
		return s.nodeMemory(now)
	}
	n := Node{At: now, Boot: s.boot(), System: map[string]*cgroup.Usage{}}
	if u, err := s.deps.Cgroups.Usage("/", now); err == nil {
		n.Usage = &u
	}
	memory := s.meminfo()
	n.Memory, n.Swap, n.SwapFree = memory["MemTotal"], memory["SwapTotal"], memory["SwapFree"]
	n.Processes, n.MaxProcesses = s.processes()
	n.Fs = fsSpace(s.cfg.KubeletRoot)
	if depth == Cheap {
		return n
	}
	wait, cancel := context.WithTimeout(ctx, firstWait)
	s.figures.await(wait, []string{imagesKey})
	cancel()
	n.ImageFs, n.ContainerFs = s.figures.imageFs(), s.figures.containerFs()
	n.Interfaces = interfaces(s.cfg.Proc, 1)
	if u, err := s.deps.Cgroups.Usage(s.cfg.PodsCgroup, now); err == nil {
		n.System["pods"] = &u
	}
	if own := s.self(now); own != nil {
		n.System["kubelet"] = own
		if s.cfg.EmbeddedRuntime {
			n.System["runtime"] = own
		}
	}
	return n
}

// nodeMemory is what of Node is asked for every second.
func (s *Stats) nodeMemory(now time.Time) Node {
	n := Node{At: now, Memory: s.meminfo()["MemTotal"]}
	if used, err := s.deps.Cgroups.WorkingSet("/"); err == nil {
		n.Usage = &cgroup.Usage{At: now, WorkingSet: used}
	}
	return n
}

// read gives a file below /proc, empty when it cannot be read.
func (s *Stats) read(name string) string {
	b, err := os.ReadFile(filepath.Join(s.cfg.Proc, name))
	if err != nil {
		return ""
	}
	return string(b)
}

// meminfo reads /proc/meminfo in bytes.
func (s *Stats) meminfo() map[string]uint64 {
	values := map[string]uint64{}
	for line := range strings.Lines(s.read("meminfo")) {
		name, rest, _ := strings.Cut(line, ":")
		if f := strings.Fields(rest); len(f) == 2 && f[1] == "kB" {
			values[name] = number(f[0]) * 1024
		}
	}
	return values
}

// boot is when the machine started.
func (s *Stats) boot() time.Time {
	for line := range strings.Lines(s.read("stat")) {
		if rest, ok := strings.CutPrefix(line, "btime "); ok {
			return time.Unix(int64(number(strings.TrimSpace(rest))), 0)
		}
	}
	return time.Time{}
}

// processes counts tasks as the limit on process ids does.
func (s *Stats) processes() (now, most uint64) {
	most = number(strings.TrimSpace(s.read("sys/kernel/pid_max")))
	if threads := number(strings.TrimSpace(s.read("sys/kernel/threads-max"))); threads > 0 {
		most = min(most, threads)
	}
	// "0.20 0.18 0.12 1/80 11206": the fourth is running/all.
	if f := strings.Fields(s.read("loadavg")); len(f) >= 4 {
		_, all, _ := strings.Cut(f[3], "/")
		now = number(all)
	}
	return now, most
}

// self is what this process uses: by its cgroup, or by the process alone where it has none of its own.
func (s *Stats) self(now time.Time) *cgroup.Usage {
	for line := range strings.Lines(s.read("self/cgroup")) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) < 3 || parts[2] == "/" || parts[1] != "" && !strings.Contains(parts[1], "memory") {
			continue
		}
		if u, err := s.deps.Cgroups.Usage(parts[2], now); err == nil && u.Memory > 0 {
			return &u
		}
	}
	var ru syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &ru) != nil {
		return nil
	}
	u := &cgroup.Usage{
		At: now, CPU: time.Duration(ru.Utime.Nano() + ru.Stime.Nano()),
		PageFaults: uint64(ru.Minflt + ru.Majflt), MajorPageFaults: uint64(ru.Majflt),
	}
	for line := range strings.Lines(s.read("self/status")) {
		name, rest, _ := strings.Cut(line, ":")
		if f := strings.Fields(rest); len(f) == 2 && name == "VmRSS" {
			u.Memory = number(f[0]) * 1024
			u.WorkingSet = u.Memory
		} else if len(f) == 2 && name == "RssAnon" {
			u.RSS = number(f[0]) * 1024
		}
	}
	return u
}

// interfaces reads the counters of the network interfaces that a process sees, but for the loopback
// and the host's ends of pods' links, which would count twice what pods report themselves.
func interfaces(proc string, pid int) []Interface {
	b, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "net/dev"))
	if err != nil {
		return nil
	}
	return parseNetDev(string(b))
}

func parseNetDev(text string) []Interface {
	var all []Interface
	for line := range strings.Lines(text) {
		name, rest, ok := strings.Cut(line, ":")
		f := strings.Fields(rest)
		name = strings.TrimSpace(name)
		if !ok || len(f) < 16 || name == "lo" || strings.HasPrefix(name, "veth") {
			continue
		}
		all = append(all, Interface{
			Name: name, RxBytes: number(f[0]), RxPackets: number(f[1]), RxErrors: number(f[2]), RxDropped: number(f[3]),
			TxBytes: number(f[8]), TxPackets: number(f[9]), TxErrors: number(f[10]), TxDropped: number(f[11]),
		})
	}
	return all
}

// number reads a number; 0 when it is none.
func number(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
