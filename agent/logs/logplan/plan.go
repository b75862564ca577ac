package logplan

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// The forms of a rotated file's name, which are the kubelet's: log shippers and people know them.
const (
	stamp      = "20060102-150405"
	compressed = ".gz"
	unfinished = ".tmp"
)

// Policy is how much of a log is kept.
type Policy struct {
	// MaxSize is the size in bytes from which on a file is rotated.
	MaxSize int64
	// MaxFiles is how many files a log may have, with the one that is written; at least 2.
	MaxFiles int
}

// Step is one thing to do; steps are done in order.
type Step interface {
	fmt.Stringer
	step()
}

// Remove removes a file.
type Remove struct{ Name string }

// Compress replaces a file by its compressed form; Tmp is its name in the making.
type Compress struct{ Name, Tmp, To string }

// Rotate renames the file that is written and has the runtime begin a new one.
type Rotate struct{ Name, To string }

func (Remove) step()   {}
func (Compress) step() {}
func (Rotate) step()   {}

// String is one line.
func (s Remove) String() string { return "remove " + s.Name }

// String is one line.
func (s Compress) String() string { return "compress " + s.Name + " by " + s.Tmp + " to " + s.To }

// String is one line.
func (s Rotate) String() string { return "rotate " + s.Name + " to " + s.To }

// Make plans the rotation of a log; files are the names in its directory, those of other logs too.
// The rename comes first: it takes no space on a disk that is full, and while the last rotated file is
// still there, no name is given twice. The file that was just written stays plain until the next
// rotation: readers and log shippers are not yet done with it.
func Make(log string, files []string, p Policy, now time.Time) []Step {
	var steps []Step
	kept := Rotated(log, files)
	last := ""
	if len(kept) > 0 {
		last = strings.TrimSuffix(kept[len(kept)-1], compressed)
	}
	steps = append(steps, Rotate{log, next(log, last, now)})
	for _, f := range slices.Sorted(slices.Values(files)) {
		if Owned(log, f) && f != log && !slices.Contains(kept, f) {
			steps = append(steps, Remove{f})
		}
	}
	// Beside those that stay there will be the one that is written and the one that was until now.
	excess := max(0, len(kept)-max(0, p.MaxFiles-2))
	for _, f := range kept[:excess] {
		steps = append(steps, Remove{f})
	}
	for _, f := range kept[excess:] {
		if !strings.HasSuffix(f, compressed) {
			steps = append(steps, Compress{f, f + unfinished, f + compressed})
		}
	}
	return steps
}

// Owned tells whether a file belongs to a log: it is the log or one of its rotated forms.
func Owned(log, file string) bool {
	rest, ok := strings.CutPrefix(file, log)
	if !ok || rest == "" {
		return ok
	}
	rest, ok = strings.CutPrefix(rest, ".")
	rest = strings.TrimSuffix(strings.TrimSuffix(rest, unfinished), compressed)
	if !ok || len(rest) != len(stamp) {
		return false
	}
	_, err := time.Parse(stamp, rest)
	return err == nil
}

// Rotated gives the rotated files of a log, oldest first, without what a broken-off compression left:
// unfinished files, and plain ones whose compressed form is there.
func Rotated(log string, files []string) []string {
	var kept []string
	for _, f := range files {
		if f != log && Owned(log, f) && !strings.HasSuffix(f, unfinished) && !slices.Contains(files, f+compressed) {
			kept = append(kept, f)
		}
	}
	slices.Sort(kept)
	return kept
}

// next is the name for the file that was written until now: after its time, and in any case after
// the last one.
func next(log, last string, now time.Time) string {
	name := log + "." + now.UTC().Format(stamp)
	if name > last {
		return name
	}
	before, err := time.Parse(stamp, strings.TrimPrefix(last, log+"."))
	if err != nil { // not possible: Owned has parsed it
		return name
	}
	return log + "." + before.Add(time.Second).Format(stamp)
}
