package main

import (
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// The part of ginkgo's junit files that is read.
type junit struct {
	Suites []struct {
		Cases []spec `xml:"testcase"`
	} `xml:"testsuite"`
}

type spec struct {
	Name    string  `xml:"name,attr"`
	Status  string  `xml:"status,attr"`
	Failure *reason `xml:"failure"`
	Error   *reason `xml:"error"`
	Skipped *reason `xml:"skipped"`
}

type reason struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// result is what happened to the specs that were meant to run.
type result struct {
	passed  int
	skips   map[string]string // spec -> why it skipped itself
	reasons map[string]string // spec -> why it failed
}

func (r result) failed() int { return len(r.reasons) }

func readReports(dir string) (result, error) {
	r := result{skips: map[string]string{}, reasons: map[string]string{}}
	files, err := filepath.Glob(filepath.Join(dir, "junit_*.xml"))
	if err != nil {
		return r, err
	}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			return r, fmt.Errorf("read report: %w", err)
		}
		if err := r.add(data); err != nil {
			return r, fmt.Errorf("read report %s: %w", path, err)
		}
	}
	return r, nil
}

// chosenSkip begins the message of a spec that skipped itself. The ones that
// were not chosen are in the file as well, with the bare word.
const chosenSkip = "skipped - "

func (r *result) add(data []byte) error {
	var j junit
	if err := xml.Unmarshal(data, &j); err != nil {
		return err
	}
	for _, suite := range j.Suites {
		for _, s := range suite.Cases {
			r.count(s)
		}
	}
	return nil
}

func (r *result) count(s spec) {
	name := strings.TrimPrefix(s.Name, "[It] ")
	bad := s.Failure
	if bad == nil {
		bad = s.Error
	}
	switch {
	case bad != nil:
		r.reasons[name] = short(bad)
	case s.Skipped != nil:
		if why, ok := strings.CutPrefix(s.Skipped.Message, chosenSkip); ok {
			r.skips[name] = why
		}
	case s.Status == "passed" && strings.HasPrefix(s.Name, "[It] "): // not the suite's own set-up
		r.passed++
	}
}

var space = regexp.MustCompile(`\s+`)

// reasonWidth keeps a reason on three lines of a terminal.
const reasonWidth = 240

func short(r *reason) string {
	text := r.Message
	if text == "" {
		text = r.Text
	}
	text = strings.TrimSpace(space.ReplaceAllString(text, " "))
	// Matchers dump whole objects: what was expected is before them, where and
	// what came instead behind.
	if runes := []rune(text); len(runes) > reasonWidth {
		text = string(runes[:reasonWidth/2]) + " … " + string(runes[len(runes)-reasonWidth/2:])
	}
	return text
}

// print ends with the line that scripts read.
func (r result) print(w io.Writer) {
	for _, name := range slices.Sorted(maps.Keys(r.skips)) {
		fmt.Fprintf(w, "SKIP  %s\n      %s\n", name, r.skips[name])
	}
	for _, name := range slices.Sorted(maps.Keys(r.reasons)) {
		fmt.Fprintf(w, "FAIL  %s\n      %s\n", name, r.reasons[name])
	}
	fmt.Fprintf(w, "%d passed, %d failed, %d skipped\n", r.passed, len(r.reasons), len(r.skips))
}
