package serve

import (
	"runtime"
	"runtime/debug"
	"time"
)

const (
	// workingGC is steadyGC while much is allocated: as much as each of upstream's programs has by default. With
	// 40 percent a fifth of the processor time of creating ConfigMaps was the collector's.
	workingGC = 100
	// Much is allocated when so many collections in a row are closer together than workingPause: a few may also
	// be asked for, by trim.
	workingAfter = 3
	workingPause = 2 * time.Second
	// calmAfter is how long there is no collection before a burst of work is over.
	calmAfter = 10 * time.Second
)

// keepPace collects less often while there is much to do, and gives back what that has left, as long as the
// process lives. It costs nothing where nothing happens: collections are what wakes it.
func keepPace() {
	collected := collections()
	for r := (rhythm{}); ; {
		<-collected
		if r.working(time.Now()) {
			work(collected)
			r = rhythm{}
		}
	}
}

// work returns when the burst is over.
func work(collected <-chan struct{}) {
	debug.SetGCPercent(workingGC)
	calm := time.NewTimer(calmAfter)
	defer calm.Stop()
	for {
		select {
		case <-collected:
			calm.Reset(calmAfter)
		case <-calm.C:
			debug.SetGCPercent(steadyGC)
			trim()
			return
		}
	}
}

// rhythm is how collections follow one another.
type rhythm struct {
	last  time.Time
	close int // so many in a row came soon after another
}

// working is told of each collection, and tells whether they come as fast as when there is much to do.
func (r *rhythm) working(now time.Time) bool {
	if now.Sub(r.last) < workingPause {
		r.close++
	} else {
		r.close = 0
	}
	r.last = now
	return r.close >= workingAfter
}

// mark is what a collection finds to be garbage. Its pointer keeps it out of the blocks that Go makes of
// several small values, which live longer.
type mark struct{ _ *mark }

// collections gives a value after each collection, but not one for each where nobody takes them.
func collections() <-chan struct{} {
	c := make(chan struct{}, 1)
	var next func(struct{})
	next = func(struct{}) {
		select {
		case c <- struct{}{}:
		default:
		}
		runtime.AddCleanup(new(mark), next, struct{}{})
	}
	runtime.AddCleanup(new(mark), next, struct{}{})
	return c
}
