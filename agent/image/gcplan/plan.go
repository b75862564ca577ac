package gcplan

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Policy is when images are removed.
type Policy struct {
	// High and Low are the use of the file system in percent from which on images are removed, and
	// down to which.
	High, Low int
	// HighFree and LowFree bound what High and Low ask to be free, in bytes; 0: nothing does.
	HighFree, LowFree uint64
	// MinAge is how long an image stays in any case, MaxAge how long without being used; 0: forever.
	MinAge, MaxAge time.Duration
}

// Completed puts values where there are none: upstream's 85 %, 80 % and 2 min; and without a High the
// disk is too full with less than 4 GiB free, and no longer with 6 GiB, however big it is.
func (p Policy) Completed() Policy {
	if p.High == 0 {
		p.HighFree, p.LowFree = 4<<30, 6<<30
	}
	p.High, p.Low, p.MinAge = cmp.Or(p.High, 85), cmp.Or(p.Low, 80), cmp.Or(p.MinAge, 2*time.Minute)
	return p
}

// Check says what is wrong with a policy.
func (p Policy) Check() error {
	switch {
	case p.High < 0 || p.High > 100:
		return fmt.Errorf("imageGCHighThresholdPercent is %d: it must be from 0 to 100", p.High)
	case p.Low < 0 || p.Low > 100:
		return fmt.Errorf("imageGCLowThresholdPercent is %d: it must be from 0 to 100", p.Low)
	case p.Low > p.High:
		return fmt.Errorf("imageGCLowThresholdPercent is %d: it must not be above imageGCHighThresholdPercent, %d", p.Low, p.High)
	case p.MaxAge > 0 && p.MaxAge < p.MinAge:
		return fmt.Errorf("imageMaximumGCAge is %s: it must be above imageMinimumGCAge, %s", p.MaxAge, p.MinAge)
	}
	return nil
}

// Image is one image of the node.
type Image struct {
	ID     string
	Size   uint64
	Pinned bool
	// InUse: a container has it, or a pod names it.
	InUse bool
	// Seen is when it was first noticed, Used when it was last in use; zero when it never was.
	Seen, Used time.Time
}

// idle is since when nobody uses it.
func (i Image) idle() time.Time {
	if i.Used.IsZero() {
		return i.Seen
	}
	return i.Used
}

// Facts is all that Make looks at.
type Facts struct {
	Now    time.Time
	Policy Policy
	Images []Image
	// Began is when this process began to look: ages are not known before.
	Began time.Time
	// Capacity and Available are those of the images' file system, in bytes.
	Capacity, Available uint64
	// All: everything that nobody uses is to go, because the node runs out of disk.
	All bool
}

// Plan is what to do.
type Plan struct {
	// Old are to be removed for their age.
	Old []Image
	// Candidates are to be removed one by one until Need bytes are free, the least recently used first.
	Candidates []Image
	Need       uint64
	// Percent is how full the file system is.
	Percent int
}

// String is one line.
func (p Plan) String() string {
	s := fmt.Sprintf("%d%% used", p.Percent)
	for _, i := range p.Old {
		s += " old " + i.ID
	}
	if p.Need > 0 {
		s += fmt.Sprintf(" need %d of", p.Need)
		for _, i := range p.Candidates {
			s += " " + i.ID
		}
	}
	return s
}

// Make decides.
func Make(f Facts) Plan {
	var p Plan
	var idle []Image
	for _, i := range f.Images {
		if !i.InUse && !i.Pinned && f.Now.Sub(i.Seen) >= f.Policy.MinAge {
			idle = append(idle, i)
		}
	}
	slices.SortFunc(idle, func(a, b Image) int {
		return cmp.Or(a.idle().Compare(b.idle()), a.Seen.Compare(b.Seen), cmp.Compare(a.ID, b.ID))
	})
	for _, i := range idle {
		if f.Policy.MaxAge > 0 && f.Now.Sub(f.Began) > f.Policy.MaxAge && f.Now.Sub(i.idle()) > f.Policy.MaxAge {
			p.Old = append(p.Old, i)
		} else {
			p.Candidates = append(p.Candidates, i)
		}
	}
	available := min(f.Available, f.Capacity)
	if f.Capacity > 0 {
		p.Percent = 100 - int(available*100/f.Capacity)
	}
	switch {
	case f.All:
		p.Need = f.Capacity
	case f.Capacity > 0 && p.Percent >= f.Policy.High && (f.Policy.HighFree == 0 || available < f.Policy.HighFree):
		want := f.Capacity * uint64(100-f.Policy.Low) / 100
		if f.Policy.LowFree > 0 {
			want = min(want, f.Policy.LowFree)
		}
		p.Need = want - min(available, want)
	}
	if p.Need == 0 {
		p.Candidates = nil
	}
	return p
}
