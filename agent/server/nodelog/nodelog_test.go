package nodelog

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func parse(t testing.TB, raw string) (Query, bool, error) {
	t.Helper()
	values, err := url.ParseQuery(raw)
	if err != nil {
		t.Fatal(err)
	}
	return Parse(values)
}

func TestQueries(t *testing.T) {
	for _, c := range []struct{ raw, parsed, checked, args string }{
		{raw: "", parsed: "none"},
		{raw: "other=1", parsed: "none"},
		{raw: "query=kubelet", args: "--unit=kubelet"},
		{raw: "query=a&query=b@1.service", args: "--unit=a --unit=b@1.service"},
		{raw: "query=a&tailLines=3&boot=-1&pattern=x.*y&sinceTime=2026-01-01T00:00:00Z&untilTime=2026-01-01T01:00:00%2B01:00",
			args: "--since=@1767225600 --until=@1767225600 --lines=3 --unit=a --grep=x.*y --boot=-1"},
		{raw: "query=a&pattern=--file%3D/etc/shadow", args: "--unit=a --grep=--file=/etc/shadow"},
		{raw: "query=/syslog", args: ""},
		{raw: "query=", parsed: "must name"},
		{raw: "query=%20%20", parsed: "must name"},
		{raw: "query=a&tailLines=x", parsed: "tailLines"},
		{raw: "query=a&boot=now", parsed: "boot"},
		{raw: "query=a&sinceTime=yesterday", parsed: "sinceTime"},
		{raw: "tailLines=3", checked: "must name"},
		{raw: "query=a&tailLines=-1", checked: "tailLines"},
		{raw: "query=a&tailLines=100001", checked: "tailLines"},
		{raw: "query=a&boot=1", checked: "boot"},
		{raw: "query=a&sinceTime=2026-01-02T00:00:00Z&untilTime=2026-01-01T00:00:00Z", checked: "untilTime"},
		{raw: "query=a&pattern=%28", checked: "pattern"},
		{raw: "query=a&pattern=%00", checked: "pattern"},
		{raw: "query=a&pattern=" + strings.Repeat("x", 1025), checked: "pattern"},
		{raw: "query=a&query=/syslog", checked: "not both"},
		{raw: "query=/a&query=/b", checked: "one file"},
		{raw: "query=/a&tailLines=1", checked: "without other"},
		{raw: "query=a&query=b&query=c&query=d&query=e", checked: "at the most"},
		{raw: "query=" + strings.Repeat("x", 257), checked: "up to 256"},
		{raw: "query=a%3Bid", checked: "letters"}, {raw: "query=a%20b", checked: "letters"}, {raw: "query=$(id)", checked: "letters"},
		{raw: "query=a%0Ab", checked: "letters"}, {raw: "query=a|b", checked: "letters"}, {raw: "query=%60id%60", checked: "letters"},
	} {
		q, ok, err := parse(t, c.raw)
		switch {
		case c.parsed == "none":
			if ok || err != nil {
				t.Errorf("%q: %t %v", c.raw, ok, err)
			}
			continue
		case c.parsed != "":
			if err == nil || !strings.Contains(err.Error(), c.parsed) {
				t.Errorf("%q: %v, want %q", c.raw, err, c.parsed)
			}
			continue
		case err != nil || !ok:
			t.Errorf("%q: %t %v", c.raw, ok, err)
			continue
		}
		err = q.Check()
		if c.checked != "" {
			if err == nil || !strings.Contains(err.Error(), c.checked) {
				t.Errorf("%q: %v, want %q", c.raw, err, c.checked)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", c.raw, err)
		}
		if got := strings.Join(q.arguments(q.Services)[3:], " "); got != c.args {
			t.Errorf("%q: arguments %q, want %q", c.raw, got, c.args)
		}
	}
}

// However it is written, what a client says begins no argument.
func FuzzArguments(f *testing.F) {
	f.Add("query=a&pattern=-x&tailLines=-5&boot=-3")
	f.Add("query=--file=/etc/shadow")
	f.Fuzz(func(t *testing.T, raw string) {
		values, err := url.ParseQuery(raw)
		if err != nil {
			return
		}
		q, ok, err := Parse(values)
		if !ok || err != nil || q.Check() != nil {
			return
		}
		options := []string{"--utc", "--no-pager", "--output=", "--since=@", "--until=@", "--lines=", "--unit=", "--grep=", "--boot="}
		for _, arg := range q.arguments(q.Services) {
			if !slices.ContainsFunc(options, func(o string) bool { return strings.HasPrefix(arg, o) }) || strings.ContainsRune(arg, 0) {
				t.Errorf("%q makes the argument %q", raw, arg)
			}
		}
	})
}

// machine is a log directory and a journal that knows the unit nodelet.
func machine(t *testing.T, journal string) *Reader {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), mode)); err != nil {
			t.Fatal(err)
		}
	}
	write("log/plain", "one\n", 0o600)
	write("log/dotted.log", "two\n", 0o600)
	write("log/dir/dir.log", "three\n", 0o600)
	write("secret", "secret\n", 0o600)
	if err := os.Symlink("../secret", filepath.Join(dir, "log/link")); err != nil {
		t.Fatal(err)
	}
	write("journalctl", "#!/bin/sh\n"+journal, 0o755)
	return New(Config{Dir: filepath.Join(dir, "log"), Journalctl: filepath.Join(dir, "journalctl"), Aliases: map[string]string{"kubelet": "nodelet"}})
}

const journal = `case "$1" in --field=*) echo ssh.service; echo nodelet.service;; *) echo "journal: $*";; esac
`

func TestCopy(t *testing.T) {
	for _, c := range []struct{ raw, want string }{
		{"query=ssh&tailLines=2", "journal: --utc --no-pager --output=short-precise --lines=2 --unit=ssh\n"},
		{"query=kubelet", "journal: --utc --no-pager --output=short-precise --unit=nodelet\n"},
		{"query=plain", "one\n"},
		{"query=dotted", "two\n"},
		{"query=dir", "three\n"},
		{"query=nothing", "\nlog not found for nothing\n"},
		{"query=ssh&query=plain", "journal: --utc --no-pager --output=short-precise --unit=ssh\none\n"},
		{"query=plain&tailLines=2", "\noptions present and query resolved to log files for [plain]\ntry without specifying options\n"},
	} {
		q, _, err := parse(t, c.raw)
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		if err := machine(t, journal).Copy(t.Context(), &out, q); err != nil || out.String() != c.want {
			t.Errorf("%s: %q %v, want %q", c.raw, out.String(), err, c.want)
		}
	}
	// A link out of the directory, and ".." which is a name without a slash.
	for _, name := range []string{"link", ".."} {
		var out strings.Builder
		if err := machine(t, journal).Copy(t.Context(), &out, Query{Services: []string{name}}); err != nil || strings.Contains(out.String(), "secret\n") {
			t.Errorf("%s: %q %v", name, out.String(), err)
		}
	}
	var out strings.Builder
	none := New(Config{Dir: t.TempDir(), Journalctl: "/does/not/exist"})
	if err := none.Copy(t.Context(), &out, Query{Services: []string{"x"}}); err != nil || !strings.Contains(out.String(), "log not found") {
		t.Errorf("without journal: %q %v", out.String(), err)
	}
}

// A program that hangs ends with the request, and holds up only its own place.
func TestCopyIsBounded(t *testing.T) {
	dir := t.TempDir()
	begun := filepath.Join(dir, "begun")
	r := machine(t, `case "$1" in --field=*) echo a.service;; *) echo x >> `+begun+`; exec sleep 1000;; esac
`)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, parallel)
	for range parallel {
		go func() { done <- r.Copy(ctx, &strings.Builder{}, Query{Services: []string{"a"}}) }()
	}
	for data := []byte{}; len(data) < 2*parallel; time.Sleep(time.Millisecond) {
		if t.Context().Err() != nil {
			t.Fatal("the programs did not start")
		}
		data, _ = os.ReadFile(begun)
	}
	if err := r.Copy(ctx, &strings.Builder{}, Query{Services: []string{"a"}}); !errors.Is(err, ErrBusy) {
		t.Errorf("one more: %v", err)
	}
	cancel()
	for range parallel {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
