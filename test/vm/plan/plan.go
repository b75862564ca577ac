// Package plan is what the host tells the guest of a test machine, and how the guest answers.
//
// Pure.
package plan

import (
	"fmt"
	"strconv"
	"strings"
)

// Path is where a Plan is in the machine, as JSON.
const Path = "/vm/plan.json"

// Plan is what a machine does before it switches itself off.
type Plan struct {
	Steps []Step
	// Root is the device with the root file system to go to, whose init then
	// starts the guest again; empty: the first file system is all there is.
	Root string
}

// Step is one program to run.
type Step struct {
	Name    string // of the suite
	Dir     string
	Command []string
}

// The words of the guest: each is a line of its own on the serial line.
const (
	begin = "##vm begin "
	end   = "##vm end "
	off   = "##vm off"
)

// Begin announces a step.
func Begin(name string) string { return begin + name }

// End says with what status a step ended; negative: it could not be run.
func End(name string, status int) string { return fmt.Sprintf("%s%s %d", end, name, status) }

// Off is the last word.
func Off() string { return off }

// Word is a line of the guest, understood.
type Word struct {
	Begin, End string // names of steps
	Status     int    // of the step that ended
	Off        bool
}

// Read understands a line; false: it is output of a test. The kernel may have
// written before it on the same line.
func Read(line string) (Word, bool) {
	at := strings.Index(line, "##vm ")
	if at < 0 {
		return Word{}, false
	}
	line = strings.TrimSpace(line[at:])
	if line == off {
		return Word{Off: true}, true
	}
	if name, ok := strings.CutPrefix(line, begin); ok {
		return Word{Begin: name}, true
	}
	rest, ok := strings.CutPrefix(line, end)
	name, status, found := strings.Cut(rest, " ")
	n, err := strconv.Atoi(status)
	if !ok || !found || err != nil {
		return Word{}, false
	}
	return Word{End: name, Status: n}, true
}
