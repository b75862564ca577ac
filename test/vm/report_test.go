package main

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"nodelet/test/vm/plan"
)

// serial makes what a machine says.
func serial(lines ...string) *strings.Reader {
	return strings.NewReader(strings.Join(lines, "\r\n") + "\r\n")
}

func TestListen(t *testing.T) {
	r := &runner{out: io.Discard}
	results, whole := r.listen(serial(
		"Booting", plan.Begin("a"), "--- PASS: TestX (0.1s)", "    --- PASS: TestX/y (0.1s)", "    x_test.go:3: no such thing here",
		"--- SKIP: TestZ (0s)", plan.End("a", 0), plan.Begin("b"), "--- FAIL: TestF (1s)", plan.End("b", 1), plan.Off(),
	), time.Now())
	if !whole || len(results) != 2 {
		t.Fatalf("%v, whole %t", results, whole)
	}
	a, b := results[0], results[1]
	if a.passed != 2 || a.skipped != 1 || a.bad() || a.reasons["no such thing here"] != 1 {
		t.Errorf("a: %+v", a)
	}
	if b.failed != 1 || !b.bad() {
		t.Errorf("b: %+v", b)
	}
	results, whole = r.listen(serial(plan.Begin("a"), "--- PASS: TestX (0.1s)", "Kernel panic - not syncing"), time.Now())
	if whole || len(results) != 1 || !results[0].bad() {
		t.Errorf("a machine that died: %v, whole %t", results, whole)
	}
}

func TestReport(t *testing.T) {
	fine := ran{version: "6.1", release: "6.1.0", results: []result{{suite: "a", passed: 3}}}
	missing := ran{version: "5.15", missing: true, err: errors.New("not to be had")}
	for name, c := range map[string]struct {
		all  []ran
		good bool
		want string
	}{
		"fine":           {[]ran{fine, missing}, true, "5.15   not run: not to be had\n3 passed, 0 failed, 0 skipped"},
		"nothing ran":    {[]ran{missing}, false, "0 passed"},
		"no such test":   {[]ran{{version: "6.1", results: []result{{suite: "a"}}}}, false, "no test ran"},
		"broken":         {[]ran{fine, {version: "6.12", err: errors.New("died")}}, false, "6.12   broken: died"},
		"failed":         {[]ran{{version: "6.1", release: "x", results: []result{{suite: "a", failed: 1, output: []string{"why"}}}}}, false, "a on x:\nwhy"},
		"status alone":   {[]ran{{version: "6.1", results: []result{{suite: "a", passed: 1, status: 2}}}}, false, "1 passed, 0 failed"},
		"skipped reason": {[]ran{{version: "6.1", results: []result{{suite: "a", skipped: 2, reasons: map[string]int{"no IPVS": 2}}}}}, true, "skipped 2: no IPVS"},
	} {
		var out strings.Builder
		if good := report(&out, c.all); good != c.good || !strings.Contains(out.String(), c.want) {
			t.Errorf("%s: good %t, want %t; output:\n%s", name, good, c.good, out.String())
		}
	}
}

func TestNewestFirst(t *testing.T) {
	v := []string{"linux-image-6.1.0-9-cloud-amd64", "linux-image-6.1.0-56-cloud-amd64", "linux-image-6.1.0-47-cloud-amd64"}
	slices.SortFunc(v, func(a, b string) int { return -slices.Compare(numbers(a), numbers(b)) })
	if v[0] != "linux-image-6.1.0-56-cloud-amd64" || v[2] != "linux-image-6.1.0-9-cloud-amd64" {
		t.Error(v)
	}
}

func TestCPIO(t *testing.T) {
	var out strings.Builder
	c := newCPIO(&out)
	c.Link("/lib", "usr/lib")
	c.File("/etc/x", 0o644, []byte("abc"))
	c.File("/etc/x", 0o644, []byte("twice"))
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if out.Len()%4 != 0 || strings.Count(out.String(), "070701") != 4 || strings.Contains(out.String(), "twice") {
		t.Errorf("%q", out.String())
	}
}
