package main

import (
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// unfinished is the status of a suite whose end was not seen.
const unfinished = -2

// result is what a suite came to.
type result struct {
	suite                   string
	status                  int
	passed, failed, skipped int
	reasons                 map[string]int // of what was skipped
	output                  []string
	said                    string // the last line with a position: a skipped test's reason
}

var (
	verdict  = regexp.MustCompile(`^ *--- (PASS|FAIL|SKIP): `)
	position = regexp.MustCompile(`^ +[A-Za-z0-9_]+\.go:[0-9]+: (.*)`)
)

// line takes one line of the output of a test binary.
func (r *result) line(line string) {
	r.output = append(r.output, line)
	if m := position.FindStringSubmatch(line); m != nil {
		r.said = m[1]
	}
	m := verdict.FindStringSubmatch(line)
	if m == nil {
		return
	}
	switch m[1] {
	case "PASS":
		r.passed++
	case "FAIL":
		r.failed++
	case "SKIP":
		r.skipped++
		if r.reasons == nil {
			r.reasons = map[string]int{}
		}
		r.reasons[r.said]++
	}
}

func (r *result) bad() bool { return r.status != 0 || r.failed > 0 }

func (r *result) String() string {
	text := fmt.Sprintf("%-20s %4d passed %3d failed %3d skipped", r.suite, r.passed, r.failed, r.skipped)
	switch {
	case r.status == unfinished:
		text += "  the machine died in it"
	case r.status != 0:
		text += fmt.Sprintf("  exit status %d", r.status)
	}
	return text
}

// lines of a failed suite's output that are shown.
const shown = 200

// ran is what became of one kernel.
type ran struct {
	version, release string
	results          []result
	err              error // it did not run, or not to its end
	missing          bool  // there is no such kernel here
}

// report prints what failed, then the table, and tells whether all is well.
func report(w io.Writer, all []ran) bool {
	for _, k := range all {
		for _, r := range k.results {
			if r.bad() {
				fmt.Fprintf(w, "\n%s on %s:\n%s\n", r.suite, k.release, strings.Join(r.output[max(0, len(r.output)-shown):], "\n"))
			}
		}
	}
	fmt.Fprintln(w)
	reasons := map[string]int{}
	sum, good, whole := result{}, true, false
	for _, k := range all {
		var n result
		for _, r := range k.results {
			n.passed, n.failed, n.skipped = n.passed+r.passed, n.failed+r.failed, n.skipped+r.skipped
			good = good && !r.bad()
			for why, times := range r.reasons {
				reasons[why] += times
			}
		}
		switch {
		case k.missing:
			fmt.Fprintf(w, "%-6s not run: %v\n", k.version, k.err)
			continue
		case k.err != nil:
			good = false
			fmt.Fprintf(w, "%-6s broken: %v\n", k.version, k.err)
		default:
			whole = true
		}
		fmt.Fprintf(w, "%-6s %d passed, %d failed, %d skipped (%s)\n", k.version, n.passed, n.failed, n.skipped, k.release)
		sum.passed, sum.failed, sum.skipped = sum.passed+n.passed, sum.failed+n.failed, sum.skipped+n.skipped
	}
	for _, why := range slices.Sorted(maps.Keys(reasons)) {
		fmt.Fprintf(w, "skipped %d: %s\n", reasons[why], why)
	}
	fmt.Fprintf(w, "%d passed, %d failed, %d skipped\n", sum.passed, sum.failed, sum.skipped)
	if sum.passed+sum.failed+sum.skipped == 0 {
		fmt.Fprintln(w, "no test ran: does TEST name one? It selects by the names of top-level tests")
		return false
	}
	return good && whole
}
