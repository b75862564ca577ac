package footprint

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// steadyGC collects when the heap has grown by this many percent. Most of it
	// is the picture of the cluster, which stays. Measured with 10,000 Services
	// and 100 changes a second: 11 MB less than with Go's 100, for 0.3 % of a core;
	// 30 saves 8 MB more and takes 2.4 %.
	steadyGC = 50
	// startGC is the same during the start of a daemon that need not be quick
	// about it. Measured with the first lists of 10,000 Services and DNS alone: 1 MB
	// less when all garbage is gone, because it had less to lie between; 0.3 s of
	// a processor.
	startGC = 25
	// trimEvery is how often at most what work has left is given back where there is always some.
	trimEvery = 10 * time.Minute
	// look is how often is looked whether a burst of work is over: some microseconds each time.
	look = 2 * time.Second
	// calm is what is allocated in that time at most when nothing much happens, in bytes. Measured: 0.5 MB a
	// second with 100 idle pods, 5 to 15 MB a second while pods start, 1.5 MB for each.
	calm = 4 << 20
	// leastWork is after how many allocated bytes a trim is worth its time, which is that of a full
	// collection; a larger heap must have been filled once more.
	leastWork = 32 << 20
)

// Begin keeps the heap small until Settle, at the cost of time.
func Begin() {
	if !chosen() {
		debug.SetGCPercent(startGC)
	}
}

// chosen tells whether the operator has decided when to collect.
func chosen() bool { return os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" }

// Settle goes over from the start, most of which is garbage, to the steady
// state, and keeps it until ctx ends.
func Settle(ctx context.Context) {
	if !chosen() {
		debug.SetGCPercent(steadyGC)
	}
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	var w work
	for {
		Trim()
		w.done = allocated().total
		for last := time.Now(); time.Since(last) < trimEvery && !w.over(allocated()); {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	}
}

// heap is what was ever allocated, and what was alive of it at the last collection, in bytes.
type heap struct{ total, live uint64 }

func allocated() heap {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	return heap{s[0].Value.Uint64(), s[1].Value.Uint64()}
}

// work is what was allocated until the last trim and until the last look.
type work struct{ done, seen uint64 }

// over tells whether there was enough work since the last trim, and hardly any since the last look.
func (w *work) over(now heap) bool {
	since := now.total - w.seen
	w.seen = now.total
	return since < calm && now.total-w.done >= max(leastWork, now.live)
}

// Trim gives memory back to the system: garbage, and the pages of the program's
// file that only the start needed. What is still used of these comes back from
// the page cache at the next touch; where the kernel refuses, nothing is lost.
func Trim() {
	debug.FreeOSMemory()
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return
	}
	defer maps.Close()
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		if from, to, ok := programPages(lines.Text(), exe); ok {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED)
		}
	}
}

// programPages reads a line of /proc/PID/maps and tells whether it is a part of
// exe that cannot have been written to (proc_pid_maps(5)).
func programPages(line, exe string) (from, to uintptr, ok bool) {
	var perms string
	if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &perms); err != nil {
		return 0, 0, false
	}
	return from, to, (perms == "r-xp" || perms == "r--p") && strings.HasSuffix(line, " "+exe)
}
