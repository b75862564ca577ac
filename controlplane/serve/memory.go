package serve

import (
	"bufio"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// steadyGC collects when the heap has grown by this many percent. Most of
	// the heap never changes; 20 and 30 instead of 40 save nothing when idle.
	steadyGC = 40
	// startLimit is how far the heap may grow during the start before it is
	// collected: most of it is garbage then. Measured: without any limit what
	// stays is scattered over 350 MB and costs 20 MB more for good.
	startLimit = 200 << 20
	// trimEvery is how often the steady state gives back what bursts of work left:
	// a full collection, about 0.2 s of CPU.
	trimEvery = 10 * time.Minute
)

// relaxMemory lets the start run with little garbage collection. What it returns
// goes over to the steady state. GOGC or GOMEMLIMIT in the environment are the
// operator's decision and turn this off.
func relaxMemory() (steady func()) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	debug.SetGCPercent(-1)
	old := debug.SetMemoryLimit(startLimit)
	return func() {
		debug.SetMemoryLimit(old)
		debug.SetGCPercent(steadyGC)
		go trimForever()
		go keepPace()
	}
}

// trimForever gives memory back to the system as long as the process lives: when the caches are filled,
// when the first pods have come, and then regularly.
func trimForever() {
	for _, pause := range []time.Duration{8 * time.Second, 20 * time.Second, time.Minute} {
		time.Sleep(pause)
		trim()
	}
	for range time.Tick(trimEvery) {
		trim()
	}
}

func trim() {
	debug.FreeOSMemory()
	releaseProgram()
}

// releaseProgram gives the pages of the program file back that only the start
// needed: about 80 of 130 MB. What is still used comes back from the page cache
// at the next touch. Where the kernel refuses, nothing is lost.
func releaseProgram() {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return
	}
	defer f.Close()
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if from, to, ok := programPages(lines.Text(), exe); ok {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED)
		}
	}
}

// programPages reads a line of /proc/self/maps and tells whether it is a part
// of exe that cannot have been written to.
func programPages(line, exe string) (from, to uintptr, ok bool) {
	var perms string
	if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &perms); err != nil {
		return 0, 0, false
	}
	readOnly := perms == "r-xp" || perms == "r--p"
	return from, to, readOnly && strings.HasSuffix(line, " "+exe)
}
