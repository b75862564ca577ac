package crilog

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const at = "2026-01-02T03:04:05.123456789Z"

func reader(t testing.TB) *Reader {
	r := NewReader()
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// read gives what a log of that content reads as.
func read(t testing.TB, content string, opts Options) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "0.log")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if opts.Stdout == nil && opts.Stderr == nil {
		opts.Stdout, opts.Stderr = &out, &out
	}
	if err := reader(t).Read(t.Context(), Log{Root: dir, Path: file}, opts); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func ptr[T any](v T) *T { return &v }

func TestRead(t *testing.T) {
	two := at + " stdout F one\n" + at + " stderr F two\n"
	old := "2025-01-01T00:00:00Z stdout F old\n"
	var only bytes.Buffer
	tests := []struct {
		name, content string
		opts          Options
		want          string
	}{
		{"plain", two, Options{}, "one\ntwo\n"},
		{"empty", "", Options{}, ""},
		{"empty line", at + " stdout F \n" + at + " stdout F\n", Options{}, "\n\n"},
		{"stamps", two, Options{Timestamps: true}, at + " one\n" + at + " two\n"},
		{"stamps have nine digits", "2026-01-02T03:04:05+02:00 stdout F x\n", Options{Timestamps: true}, "2026-01-02T03:04:05.000000000+02:00 x\n"},
		{"parts", at + " stdout P a\n" + at + " stdout P b\n" + at + " stdout F c\n", Options{Timestamps: true}, at + " abc\n"},
		{"parts between the other stream's", at + " stdout P a\n" + at + " stderr F x\n" + at + " stdout F b\n", Options{}, "x\nab\n"},
		{"more tags", at + " stdout P:x a\n" + at + " stdout F:y b\n", Options{}, "ab\n"},
		{"garbage is left out", "nonsense\n\n" + two + at + " stdin F x\n" + at + " stdout X x\nyesterday stdout F x\n", Options{}, "one\ntwo\n"},
		{"no end of line", at + " stdout F cut", Options{}, "cut"},
		{"part without the rest", at + " stdout P cut\n", Options{}, "cut"},
		{"since", old + two, Options{Since: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}, "one\ntwo\n"},
		{"limit", two, Options{LimitBytes: ptr(int64(5))}, "one\nt"},
		{"limit at the end of a line", two, Options{LimitBytes: ptr(int64(4))}, "one\n"},
		{"tail 0", two, Options{TailLines: ptr(int64(0))}, ""},
		{"tail 1", two, Options{TailLines: ptr(int64(1))}, "two\n"},
		{"tail 2", two, Options{TailLines: ptr(int64(2))}, "one\ntwo\n"},
		{"tail of more than there is", two, Options{TailLines: ptr(int64(1 << 40))}, "one\ntwo\n"},
		{"tail counts whole lines", at + " stdout F x\n" + at + " stdout P a\n" + at + " stdout F b\n", Options{TailLines: ptr(int64(1))}, "ab\n"},
		{"tail with parts between the other stream's", at + " stdout P a\n" + at + " stderr F x\n" + at + " stdout F b\n", Options{TailLines: ptr(int64(1))}, "ab\n"},
		{"stdout only", two, Options{Stdout: &only}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := read(t, test.content, test.opts); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
	if only.String() != "one\n" {
		t.Errorf("stdout only: %q", only.String())
	}
}

// A line far longer than any buffer comes out whole.
func TestLongLine(t *testing.T) {
	long := strings.Repeat("x", 3*maxRaw+17)
	got := read(t, at+" stdout F a\n"+at+" stdout F "+long+"\n"+at+" stdout F b\n", Options{})
	if got != "a\n"+long+"\nb\n" {
		t.Errorf("%d bytes, want %d", len(got), len(long)+5)
	}
	got = read(t, at+" stdout F "+long+"\n"+at+" stdout F b\n", Options{TailLines: ptr(int64(2)), Timestamps: true})
	if got != at+" "+long+"\n"+at+" b\n" {
		t.Errorf("tail: %d bytes", len(got))
	}
}

// A tail of a big file must not read all of it.
func TestTailReadsLittle(t *testing.T) {
	var b strings.Builder
	for i := range 200_000 {
		fmt.Fprintf(&b, "%s stdout F line %d\n", at, i)
	}
	r := &countingReader{Reader: strings.NewReader(b.String())}
	start, from, err := tail(r, int64(b.Len()), 3)
	if err != nil || start != from || b.String()[start:] != b.String()[strings.LastIndex(b.String()[:b.Len()-1], "line 199997")-len(at)-len(" stdout F "):] {
		t.Errorf("start %d from %d of %d: %v", start, from, b.Len(), err)
	}
	if r.n > 2*tailSlack {
		t.Errorf("read %d of %d bytes", r.n, b.Len())
	}
}

type countingReader struct {
	*strings.Reader
	n int
}

func (c *countingReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.Reader.ReadAt(p, off)
	c.n += n
	return n, err
}

func TestOutsideIsNotRead(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	secret := filepath.Join(outside, "secret")
	if err := os.WriteFile(secret, []byte(at+" stdout F secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, filepath.Join(dir, "0.log")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "sub")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{
		filepath.Join(dir, "0.log"), filepath.Join(dir, "sub", "secret"), secret,
		dir + "/../" + filepath.Base(outside) + "/secret", "relative", "",
	} {
		var out bytes.Buffer
		err := reader(t).Read(t.Context(), Log{Root: dir, Path: path}, Options{Stdout: &out})
		if err == nil || out.Len() > 0 {
			t.Errorf("%s: read %q, %v", path, out.String(), err)
		}
	}
}

// writer writes a log as a runtime does and rotates it as an agent does.
type writer struct {
	t        *rapid.T
	dir      string
	file     *os.File
	rotation int
	want     [2]strings.Builder
	line     [2]bool // in the middle of a line of parts
	n        int
}

func (w *writer) check(err error) {
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *writer) open() {
	f, err := os.OpenFile(filepath.Join(w.dir, "0.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	w.check(err)
	w.file = f
}

// write writes one entry, now and then in two writes.
func (w *writer) write(s Stream, partial, torn bool, size int) {
	w.n++
	text := fmt.Sprintf("%d%s", w.n, strings.Repeat(".", size))
	w.want[s].WriteString(text)
	tag := "P"
	if !partial {
		tag = "F"
		w.want[s].WriteString("\n")
	}
	w.line[s] = partial
	raw := []byte(fmt.Sprintf("%s %s %s %s\n", at, s, tag, text))
	if torn {
		half := len(raw) / 2
		_, err := w.file.Write(raw[:half])
		w.check(err)
		raw = raw[half:]
	}
	_, err := w.file.Write(raw)
	w.check(err)
}

// rotate renames, and makes the runtime open a new file; late is written to the old one after the new one is there.
func (w *writer) rotate(compress bool, late func()) {
	w.rotation++
	name := fmt.Sprintf("0.log.%08d", w.rotation)
	w.check(os.Rename(filepath.Join(w.dir, "0.log"), filepath.Join(w.dir, name)))
	old := w.file
	w.open()
	next := w.file
	w.file = old
	late()
	w.file = next
	w.check(old.Close())
	if before := fmt.Sprintf("0.log.%08d", w.rotation-1); compress && w.rotation > 1 {
		w.compress(before)
	}
}

func (w *writer) compress(name string) {
	b, err := os.ReadFile(filepath.Join(w.dir, name))
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	w.check(err)
	var z bytes.Buffer
	g := gzip.NewWriter(&z)
	_, err = g.Write(b)
	w.check(errors.Join(err, g.Close()))
	w.check(os.WriteFile(filepath.Join(w.dir, name+".tmp"), z.Bytes(), 0o600))
	w.check(os.Rename(filepath.Join(w.dir, name+".tmp"), filepath.Join(w.dir, name+".gz")))
	w.check(os.Remove(filepath.Join(w.dir, name)))
}

// safe is a buffer for two goroutines.
type safe struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safe) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safe) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// Whatever is written, in parts or torn, and however it is rotated, a follower gets every line
// exactly once and in order.
func TestFollowExactlyOnce(t *testing.T) {
	base, runs := t.TempDir(), 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		dir := filepath.Join(base, fmt.Sprint(runs))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		w := &writer{t: t, dir: dir}
		w.open()
		defer func() { w.file.Close() }()
		before := rapid.IntRange(0, 5).Draw(t, "before")
		for range before {
			w.write(Stdout, false, false, 3)
		}
		r := NewReader()
		defer r.Close()
		var out [2]safe
		ended, done := make(chan struct{}), make(chan error, 1)
		begun := make(chan struct{})
		var once sync.Once
		idle := func() error { once.Do(func() { close(begun) }); return nil }
		go func() {
			done <- r.Read(context.Background(), Log{Root: dir, Path: filepath.Join(dir, "0.log"), Ended: ended, Idle: idle},
				Options{Follow: true, Stdout: &out[Stdout], Stderr: &out[Stderr]})
		}()
		<-begun // a reader begins with the file that is written when it opens it
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0:
				if w.rotation < 3 { // each costs the reader its settling time
					w.rotate(rapid.Bool().Draw(t, "compress"), func() {
						if rapid.Bool().Draw(t, "late") {
							w.write(Stderr, false, false, 2)
						}
					})
					if rapid.Bool().Draw(t, "rest") {
						time.Sleep(time.Millisecond)
					}
				}
			default:
				s := Stream(rapid.IntRange(0, 1).Draw(t, "stream"))
				w.write(s, rapid.Bool().Draw(t, "partial"), rapid.Bool().Draw(t, "torn"), rapid.IntRange(0, 400).Draw(t, "size"))
			}
		}
		close(ended)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		for s := range out {
			if diff := cmp.Diff(w.want[s].String(), out[s].String()); diff != "" {
				t.Fatalf("%s (-want +got):\n%s", Stream(s), diff)
			}
		}
	})
}

// What a tail gives is the end of what all gives.
func TestTailProperty(t *testing.T) {
	dir := t.TempDir()
	r := reader(t)
	rapid.Check(t, func(t *rapid.T) {
		w := &writer{t: t, dir: dir}
		_ = os.Remove(filepath.Join(dir, "0.log"))
		w.open()
		defer w.file.Close()
		bigs := 0
		for range rapid.IntRange(0, 60).Draw(t, "entries") {
			big := 0
			if bigs < 2 && rapid.IntRange(0, 30).Draw(t, "big") == 0 { // over a block's edge, and within tailSlack
				big = tailBlock
				bigs++
			}
			w.write(Stream(rapid.IntRange(0, 1).Draw(t, "stream")), rapid.Bool().Draw(t, "partial"), false, big+rapid.IntRange(0, 50).Draw(t, "size"))
		}
		for s, open := range w.line {
			if open {
				w.write(Stream(s), false, false, 1)
			}
		}
		var all, some bytes.Buffer
		n := rapid.Int64Range(0, 70).Draw(t, "tail")
		log := Log{Root: dir, Path: filepath.Join(dir, "0.log")}
		if err := r.Read(context.Background(), log, Options{Stdout: &all, Stderr: &all}); err != nil {
			t.Fatal(err)
		}
		if err := r.Read(context.Background(), log, Options{Stdout: &some, Stderr: &some, TailLines: &n}); err != nil {
			t.Fatal(err)
		}
		lines := strings.SplitAfter(all.String(), "\n")
		lines = lines[:len(lines)-1]
		want := strings.Join(lines[max(0, len(lines)-int(n)):], "")
		if some.String() != want {
			t.Fatalf("tail %d of %d lines gave\n%.2000s\nwant\n%.2000s", n, len(lines), some.String(), want)
		}
	})
}

// A follower sees a line soon after it is written, and ends with its context.
func TestFollowIsPrompt(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "0.log")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := make(chan string, 10)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	r := reader(t)
	go func() {
		done <- r.Read(ctx, Log{Root: dir, Path: file, Ended: make(chan struct{})}, Options{Follow: true, Stdout: writerFunc(func(p []byte) (int, error) {
			got <- string(p)
			return len(p), nil
		})})
	}()
	for i := range 5 {
		fmt.Fprintf(f, "%s stdout F %d\n", at, i)
		select {
		case s := <-got:
			if s != fmt.Sprintf("%d\n", i) {
				t.Errorf("got %q", s)
			}
		case <-time.After(look - 500*time.Millisecond):
			t.Fatal("nothing came: inotify does not work")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// A log that does not exist yet is waited for while the container lives.
func TestFollowBeforeTheFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "0.log")
	r := reader(t)
	if err := r.Read(t.Context(), Log{Root: dir, Path: file}, Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without follow: %v", err)
	}
	var out safe
	ended, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- r.Read(t.Context(), Log{Root: dir, Path: file, Ended: ended}, Options{Follow: true, Stdout: &out})
	}()
	if err := os.WriteFile(file, []byte(at+" stdout F x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	close(ended)
	if err := <-done; err != nil || out.String() != "x\n" {
		t.Errorf("%q %v", out.String(), err)
	}
}

func TestWriteErrorEndsReading(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "0.log")
	if err := os.WriteFile(file, []byte(at+" stdout F x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken pipe")
	err := reader(t).Read(t.Context(), Log{Root: dir, Path: file, Ended: make(chan struct{})}, Options{Follow: true,
		Stdout: writerFunc(func([]byte) (int, error) { return 0, broken })})
	if !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{at + " stdout F x", at + " stderr P:a:b x y", "", " ", at, at + " stdout", at + " stdout F"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := Parse(line)
		if err == nil && !bytes.HasSuffix(line, e.Text) {
			t.Errorf("text %q is not the end of %q", e.Text, line)
		}
	})
}

// Whatever a file holds, reading ends, a tail is a suffix in bytes, and nothing panics.
func FuzzRead(f *testing.F) {
	f.Add([]byte(at+" stdout P a\n"+at+" stderr F b\n\n\x00"), int64(1))
	dir, r := f.TempDir(), reader(f)
	log := Log{Root: dir, Path: filepath.Join(dir, "0.log")}
	f.Fuzz(func(t *testing.T, content []byte, n int64) {
		if n < 0 || n > 1000 {
			n = 3
		}
		if err := os.WriteFile(log.Path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		var all, some bytes.Buffer
		if err := r.Read(t.Context(), log, Options{Stdout: &all, Stderr: &all}); err != nil {
			t.Fatal(err)
		}
		if err := r.Read(t.Context(), log, Options{Stdout: &some, Stderr: &some, TailLines: &n}); err != nil {
			t.Fatal(err)
		}
		if some.Len() > all.Len() {
			t.Errorf("a tail of %d bytes of %d", some.Len(), all.Len())
		}
	})
}
