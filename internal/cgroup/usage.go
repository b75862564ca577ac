package cgroup

import (
	"bufio"
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Usage is what a cgroup and those below it use. What a missing controller would tell is zero.
type Usage struct {
	// At is when it was read.
	At time.Time
	// CPU is the time used since the cgroup was made; CPUUser and CPUSystem are its parts as far as the
	// kernel tells them apart.
	CPU, CPUUser, CPUSystem time.Duration
	// Memory in bytes; WorkingSet is what cannot be reclaimed at once: all but inactive file pages.
	Memory, WorkingSet, RSS uint64
	// Cache, Mapped and Kernel are parts of Memory; Peak is the most it ever was, 0 before Linux 5.19.
	Cache, Mapped, Kernel, Peak uint64
	// Swap is 0 where swap is not accounted; SwapLimit is nil without a limit.
	Swap      uint64
	SwapLimit *uint64
	// MemoryLimit is 0 when there is none.
	MemoryLimit                 uint64
	PageFaults, MajorPageFaults uint64
	PIDs                        uint64
	IO                          IO
	// Spec are the CPU limits as written.
	Spec      CPUSpec
	Throttled Throttled
	// OOMKills counts processes the kernel killed for the memory limit.
	OOMKills uint64
	// Pressure is nil without PSI.
	Pressure *Pressure
}

// IO counts what went to and came from block devices, all of them together.
type IO struct {
	ReadBytes, WriteBytes, Reads, Writes uint64
}

// CPUSpec is how the CPU is limited: Quota microseconds in each Period, 0 for no limit, and the weight
// in shares of v1.
type CPUSpec struct {
	Quota  int64
	Period uint64
	Shares uint64
}

// Throttled says how often a CPU limit stopped the cgroup.
type Throttled struct {
	Periods, ThrottledPeriods uint64
	Time                      time.Duration
}

// Pressure is pressure stall information: time in which tasks waited.
type Pressure struct {
	CPU, Memory, IO Stall
}

// Stall is the pressure on one resource: some tasks waited, or all of them.
type Stall struct {
	Some, Full StallTime
}

// StallTime is the share of time lost, in percent over the last 10, 60 and 300 seconds, and in all.
type StallTime struct {
	Avg10, Avg60, Avg300 float64
	Total                time.Duration
}

// Usage reads what a cgroup uses; cgroup is a Path, or one below it such as a container's. The root
// "/" is the whole machine.
func (t *Tree) Usage(cgroup string, now time.Time) (Usage, error) {
	if _, err := t.stat(cgroup); err != nil {
		return Usage{}, err
	}
	u := Usage{At: now}
	t.readCPU(cgroup, &u)
	t.readMemory(cgroup, &u)
	if tree, _, ok := t.h.tree("pids"); ok {
		u.PIDs = readUint(filepath.Join(tree, cgroup, "pids.current"))
	}
	t.readIO(cgroup, &u)
	if t.h.unified != "" {
		u.Pressure = readPressure(filepath.Join(t.h.unified, cgroup))
	}
	return u, nil
}

// WorkingSet is that of Usage alone: a few files in place of two dozen, for who looks every second.
func (t *Tree) WorkingSet(cgroup string) (uint64, error) {
	if _, err := t.stat(cgroup); err != nil {
		return 0, err
	}
	tree, v2, ok := t.h.tree("memory")
	if !ok {
		return 0, nil
	}
	dir := filepath.Join(tree, cgroup)
	all, inactive := held(dir, cgroup, v2, readFlat(filepath.Join(dir, "memory.stat")))
	return all - min(all, inactive), nil
}

// held is how much memory a cgroup has, and how much of that is of files that were not used for long.
func held(dir, cgroup string, v2 bool, stat map[string]uint64) (all, inactive uint64) {
	switch {
	case !v2:
		return readUint(filepath.Join(dir, "memory.usage_in_bytes")), stat["total_inactive_file"]
	case cgroup == "/": // the root of v2 has no file for it
		return stat["anon"] + stat["file"] + stat["kernel"], stat["inactive_file"]
	default:
		return readUint(filepath.Join(dir, "memory.current")), stat["inactive_file"]
	}
}

func (t *Tree) readCPU(cgroup string, u *Usage) {
	tree, v2, ok := t.h.tree("cpu")
	if !ok {
		return
	}
	dir := filepath.Join(tree, cgroup)
	stat := readFlat(filepath.Join(dir, "cpu.stat"))
	u.Spec.Shares = readShares(dir, v2)
	u.Throttled = Throttled{Periods: stat["nr_periods"], ThrottledPeriods: stat["nr_throttled"]}
	if v2 {
		u.CPU = time.Duration(stat["usage_usec"]) * time.Microsecond
		u.CPUUser, u.CPUSystem = time.Duration(stat["user_usec"])*time.Microsecond, time.Duration(stat["system_usec"])*time.Microsecond
		if f := readFields(filepath.Join(dir, "cpu.max")); len(f) == 2 {
			u.Spec.Quota, u.Spec.Period = parseInt(f[0]), uint64(parseInt(f[1]))
		}
		u.Throttled.Time = time.Duration(stat["throttled_usec"]) * time.Microsecond
		return
	}
	u.Throttled.Time = time.Duration(stat["throttled_time"])
	if acct, _, ok := t.h.tree("cpuacct"); ok {
		u.CPU = time.Duration(readUint(filepath.Join(acct, cgroup, "cpuacct.usage")))
		u.CPUUser = time.Duration(readUint(filepath.Join(acct, cgroup, "cpuacct.usage_user")))
		u.CPUSystem = time.Duration(readUint(filepath.Join(acct, cgroup, "cpuacct.usage_sys")))
	}
	if f := readFields(filepath.Join(dir, "cpu.cfs_quota_us")); len(f) == 1 {
		u.Spec.Quota, u.Spec.Period = max(parseInt(f[0]), 0), readUint(filepath.Join(dir, "cpu.cfs_period_us"))
	}
}

func (t *Tree) readMemory(cgroup string, u *Usage) {
	tree, v2, ok := t.h.tree("memory")
	if !ok {
		return
	}
	dir := filepath.Join(tree, cgroup)
	stat := readFlat(filepath.Join(dir, "memory.stat"))
	all, inactive := held(dir, cgroup, v2, stat)
	u.Memory, u.WorkingSet = all, all-min(all, inactive)
	if v2 {
		u.MemoryLimit = readUint(filepath.Join(dir, "memory.max"))
		u.OOMKills = readFlat(filepath.Join(dir, "memory.events"))["oom_kill"]
		u.RSS = stat["anon"]
		u.Cache, u.Mapped, u.Kernel, u.Peak = stat["file"], stat["file_mapped"], stat["kernel"], readUint(filepath.Join(dir, "memory.peak"))
		u.Swap = readUint(filepath.Join(dir, "memory.swap.current"))
		if f := readFields(filepath.Join(dir, "memory.swap.max")); len(f) == 1 && f[0] != "max" {
			limit := uint64(parseInt(f[0]))
			u.SwapLimit = &limit
		}
		u.PageFaults, u.MajorPageFaults = stat["pgfault"], stat["pgmajfault"]
	} else {
		u.MemoryLimit = readUint(filepath.Join(dir, "memory.limit_in_bytes"))
		u.OOMKills = readFlat(filepath.Join(dir, "memory.oom_control"))["oom_kill"]
		u.RSS = stat["total_rss"]
		u.Cache, u.Mapped, u.Swap = stat["total_cache"], stat["total_mapped_file"], stat["total_swap"]
		u.Kernel, u.Peak = readUint(filepath.Join(dir, "memory.kmem.usage_in_bytes")), readUint(filepath.Join(dir, "memory.max_usage_in_bytes"))
		u.PageFaults, u.MajorPageFaults = stat["total_pgfault"], stat["total_pgmajfault"]
	}
	if u.MemoryLimit >= unlimited {
		u.MemoryLimit = 0
	}
}

// readIO adds up the devices.
func (t *Tree) readIO(cgroup string, u *Usage) {
	if tree, v2, ok := t.h.tree("io"); ok && v2 {
		b, err := os.ReadFile(filepath.Join(tree, cgroup, "io.stat"))
		if err != nil {
			return // the root has none
		}
		// "8:0 rbytes=180224 wbytes=0 rios=3 wios=0 dbytes=0 dios=0"
		for _, f := range strings.Fields(string(b)) {
			name, value, _ := strings.Cut(f, "=")
			n := uint64(parseInt(value))
			switch name {
			case "rbytes":
				u.IO.ReadBytes += n
			case "wbytes":
				u.IO.WriteBytes += n
			case "rios":
				u.IO.Reads += n
			case "wios":
				u.IO.Writes += n
			}
		}
		return
	}
	tree, _, ok := t.h.tree("blkio")
	if !ok {
		return
	}
	for file, to := range map[string][2]*uint64{
		"blkio.throttle.io_service_bytes_recursive": {&u.IO.ReadBytes, &u.IO.WriteBytes},
		"blkio.throttle.io_serviced_recursive":      {&u.IO.Reads, &u.IO.Writes},
	} {
		b, err := os.ReadFile(filepath.Join(tree, cgroup, file))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) { // "8:0 Read 180224"
			f := strings.Fields(line)
			switch {
			case len(f) == 3 && f[1] == "Read":
				*to[0] += uint64(parseInt(f[2]))
			case len(f) == 3 && f[1] == "Write":
				*to[1] += uint64(parseInt(f[2]))
			}
		}
	}
}

// Process is the id of any process in a cgroup itself, 0 when there is none.
func (t *Tree) Process(cgroup string) int {
	for _, controller := range []string{"pids", "memory", "cpu"} {
		tree, _, ok := t.h.tree(controller)
		if !ok {
			continue
		}
		if f := readFields(filepath.Join(tree, cgroup, "cgroup.procs")); len(f) > 0 {
			return int(parseInt(f[0]))
		}
	}
	return 0
}

// unlimited: cgroup v1 writes "no limit" as the greatest multiple of a page in an int64.
const unlimited = math.MaxInt64 / 65536 * 65536 / 2

// readUint reads a file with one number; 0 when it is not there or says "max".
func readUint(file string) uint64 {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseUint(string(bytes.TrimSpace(b)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// readFields reads the words of a small file.
func readFields(file string) []string {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	return strings.Fields(string(b))
}

// parseInt reads a number; 0 when it is none ("max").
func parseInt(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// readFlat reads lines of "name number".
func readFlat(file string) map[string]uint64 {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	values := map[string]uint64{}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseUint(value, 10, 64); err == nil {
			values[name] = n
		}
	}
	return values
}

func readPressure(dir string) *Pressure {
	var p Pressure
	found := false
	for name, stall := range map[string]*Stall{"cpu": &p.CPU, "memory": &p.Memory, "io": &p.IO} {
		b, err := os.ReadFile(filepath.Join(dir, name+".pressure"))
		if err != nil {
			continue
		}
		found = true
		*stall = parseStall(b)
	}
	if !found {
		return nil
	}
	return &p
}

// parseStall reads lines like "some avg10=0.00 avg60=0.00 avg300=0.00 total=0".
func parseStall(b []byte) Stall {
	var s Stall
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		var kind string
		var st StallTime
		var total int64
		if _, err := fmt.Sscanf(lines.Text(), "%s avg10=%f avg60=%f avg300=%f total=%d", &kind, &st.Avg10, &st.Avg60, &st.Avg300, &total); err != nil {
			continue
		}
		st.Total = time.Duration(total) * time.Microsecond
		if kind == "some" {
			s.Some = st
		} else {
			s.Full = st
		}
	}
	return s
}
