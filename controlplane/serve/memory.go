package serve

import (
	"os"
	"runtime/debug"
	"time"
)

const (
	// steadyGC collects when the heap has grown by this many percent: half of
	// Go's default growth is a third of our memory, for 1 % of a core.
	steadyGC = 40
	// startLimit is how far the heap may grow during the start without any
	// collection: it is half garbage then, and collecting costs a third of the
	// start's CPU time.
	startLimit = 350 << 20
	// settle is how long after the start the caches are filled.
	settle = 10 * time.Second
)

// relaxMemory lets the start run without garbage collection. What it returns
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
		time.AfterFunc(settle, debug.FreeOSMemory)
	}
}
