package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const parallelReport = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="5"><testsuite name="Kubernetes e2e suite">
<testcase name="[SynchronizedBeforeSuite]" status="passed"></testcase>
<testcase name="[It] [sig-node] good [Conformance]" status="passed"></testcase>
<testcase name="[It] [sig-node] bad [Conformance]" status="failed"><failure message="timed out&#10;  after 5m" type="failed">stack</failure></testcase>
<testcase name="[It] [sig-node] crashed" status="panicked"><error message="" type="panicked">nil map</error></testcase>
<testcase name="[It] [sig-node] not for us" status="skipped"><skipped message="skipped - Only supported for providers [gce]"></skipped></testcase>
<testcase name="[It] [sig-node] not chosen" status="skipped"><skipped message="skipped"></skipped></testcase>
</testsuite></testsuites>`

const serialReport = `<testsuites><testsuite>
<testcase name="[It] [sig-apps] alone [Serial]" status="passed"></testcase>
<testcase name="[SynchronizedAfterSuite]" status="passed"></testcase>
</testsuite></testsuites>`

func TestReports(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"junit_parallel_01.xml": parallelReport, "junit_serial_01.xml": serialReport} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r, err := readReports(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	r.print(&out)
	const want = `SKIP  [sig-node] not for us
      Only supported for providers [gce]
FAIL  [sig-node] bad [Conformance]
      timed out after 5m
FAIL  [sig-node] crashed
      nil map
2 passed, 2 failed, 1 skipped
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

func TestHalfReport(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "junit_parallel_01.xml"), []byte(parallelReport[:300]), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readReports(dir); err == nil {
		t.Error("a report cut off in the middle counts as a whole one")
	}
}

func TestShort(t *testing.T) {
	got := short(&reason{Message: "expected Running" + strings.Repeat(" {}", 300) + " got Pending at pods.go:12"})
	if !strings.HasPrefix(got, "expected Running {}") || !strings.HasSuffix(got, "{} got Pending at pods.go:12") || len(got) > 300 {
		t.Errorf("%q", got)
	}
}
