package atomic

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// errCrash ends a Write as a crash would: nothing after it happens.
var errCrash = errors.New("crash")

// crashing is a tree that lets so many changes through and no more. A file may
// be half written when the crash comes.
type crashing struct {
	*os.Root
	left int
}

func (c *crashing) change(do func() error) error {
	if c.left == 0 {
		return errCrash
	}
	c.left--
	return do()
}

func (c *crashing) Mkdir(name string, perm fs.FileMode) error {
	return c.change(func() error { return c.Root.Mkdir(name, perm) })
}

func (c *crashing) WriteFile(name string, data []byte, perm fs.FileMode) error {
	if c.left == 0 {
		return errors.Join(c.Root.WriteFile(name, data[:len(data)/2], perm), errCrash)
	}
	return c.change(func() error { return c.Root.WriteFile(name, data, perm) })
}

func (c *crashing) Chmod(name string, mode fs.FileMode) error {
	return c.change(func() error { return c.Root.Chmod(name, mode) })
}

func (c *crashing) Chown(name string, uid, gid int) error {
	return c.change(func() error { return c.Root.Chown(name, uid, gid) })
}

func (c *crashing) Symlink(oldname, newname string) error {
	return c.change(func() error { return c.Root.Symlink(oldname, newname) })
}

func (c *crashing) Rename(oldname, newname string) error {
	return c.change(func() error { return c.Root.Rename(oldname, newname) })
}

func (c *crashing) Remove(name string) error {
	return c.change(func() error { return c.Root.Remove(name) })
}

func (c *crashing) RemoveAll(name string) error {
	return c.change(func() error { return c.Root.RemoveAll(name) })
}

func open(t interface{ Fatal(...any) }, dir string) *os.Root {
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func payload(files map[string]string) Payload {
	p := Payload{GID: -1, DirMode: 0o755}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		p.Files = append(p.Files, File{Path: name, Data: []byte(files[name]), Mode: 0o644, UID: -1})
	}
	return p
}

// visibleFiles is what a program in the container can open, by the names that were ever used.
func visibleFiles(root *os.Root, names []string) map[string]string {
	out := map[string]string{}
	for _, name := range names {
		if data, err := root.ReadFile(name); err == nil {
			out[name] = string(data)
		}
	}
	return out
}

// Whatever was there, and wherever a crash comes: readers see all of the old
// files or all of the new ones, and the next Write ends as if nothing had happened.
func TestCrashAtEveryStep(t *testing.T) {
	names := []string{"a", "b", "c", "d/e", "d/f", "g/h/i", "d", "g"}
	content := rapid.SampledFrom([]string{"", "1", "22", strings.Repeat("x", 5000)})
	set := rapid.Custom(func(t *rapid.T) map[string]string {
		files := map[string]string{}
		for _, name := range rapid.SliceOfDistinct(rapid.SampledFrom(names), rapid.ID).Draw(t, "names") {
			taken := false
			for other := range files {
				taken = taken || strings.HasPrefix(other, name+"/") || strings.HasPrefix(name, other+"/")
			}
			if !taken {
				files[name] = content.Draw(t, "content")
			}
		}
		return files
	})
	base := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		tr := transition{set.Draw(t, "before"), set.Draw(t, "after")}
		tr.crash(t, base, names, rapid.IntRange(0, 40).Draw(t, "steps"))
	})
	for _, tr := range []transition{
		{nil, map[string]string{"a": "1", "d/e": "2"}},
		{map[string]string{"a": "1", "b": "2", "d/e": "3"}, map[string]string{"a": "2", "d/f": "4", "g": "5"}},
		{map[string]string{"d/e": "1", "g": "2"}, map[string]string{"d": "3", "g/h/i": "4"}},
		{map[string]string{"a": "1"}, nil},
	} {
		for steps := 0; tr.crash(t, base, names, steps); steps++ {
		}
	}
}

// transition is from one set of files to another.
type transition struct{ before, after map[string]string }

type tester interface {
	Fatal(...any)
	Fatalf(string, ...any)
}

// crash crashes the transition after so many changes, and checks what readers
// see then and after the next Write. It reports whether the crash came in time.
func (tr transition) crash(t tester, base string, names []string, steps int) bool {
	dir, err := os.MkdirTemp(base, "")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	root := open(t, dir)
	defer root.Close()
	if _, err := Write(root, payload(tr.before), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	_, err = Write(&crashing{root, steps}, payload(tr.after), time.Unix(1, 0))
	if err != nil && !errors.Is(err, errCrash) {
		t.Fatal(err)
	}
	crashed := err != nil
	seen := visibleFiles(root, names)
	if !maps.Equal(seen, tr.after) && (!crashed || !maps.Equal(seen, tr.before)) {
		t.Fatalf("after %d steps of %v readers see %v", steps, tr, seen)
	}
	if _, err := Write(root, payload(tr.after), time.Unix(2, 0)); err != nil {
		t.Fatalf("after a crash at step %d: %v", steps, err)
	}
	check(t, root, tr.after, names)
	return crashed
}

// check that the directory holds these files and nothing left over.
func check(t tester, root *os.Root, want map[string]string, names []string) {
	if seen := visibleFiles(root, names); !maps.Equal(seen, want) {
		t.Fatalf("readers see %v, want %v", seen, want)
	}
	left := map[string]bool{dataLink: true}
	for name := range want {
		first, _, _ := strings.Cut(name, "/")
		left[first] = true
	}
	all, err := entries(root, ".")
	if err != nil {
		t.Fatal(err)
	}
	dirs := 0
	for _, e := range all {
		if stamped(e.Name()) {
			dirs++
		} else if !left[e.Name()] {
			t.Fatalf("%q was left over", e.Name())
		}
	}
	if dirs != 1 || len(all) != len(left)+1 {
		t.Fatalf("%d directories of files and %d entries for %v", dirs, len(all), want)
	}
}

func TestSameContentChangesNothing(t *testing.T) {
	root := open(t, t.TempDir())
	defer root.Close()
	p := payload(map[string]string{"a": "1", "b/c": "2"})
	for i, want := range []bool{true, false} {
		if changed, err := Write(root, p, time.Now()); err != nil || changed != want {
			t.Fatalf("write %d: changed=%t, %v", i, changed, err)
		}
	}
	link, _ := root.Readlink(dataLink)
	p.Files[0].Data = []byte("3")
	if changed, err := Write(root, p, time.Now()); err != nil || !changed {
		t.Fatalf("changed=%t, %v", changed, err)
	}
	if now, _ := root.Readlink(dataLink); now == link {
		t.Fatal("new content in the old directory")
	}
}

func TestModesAndOwners(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("changing owners needs root")
	}
	dir := t.TempDir()
	root := open(t, dir)
	defer root.Close()
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	p := Payload{GID: 2000, DirMode: 0o2755, Files: []File{
		{Path: "plain", Mode: 0o644, UID: -1},
		{Path: "sub/token", Mode: 0o640, UID: 1000},
	}}
	if _, err := Write(root, p, time.Now()); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"plain": "0644 0:2000", "sub": "2755 0:2000", "sub/token": "0640 1000:2000", dataLink + "/.": "2755 0:2000"} {
		var st syscall.Stat_t
		if err := syscall.Stat(path.Join(dir, name), &st); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%04o %d:%d", st.Mode&0o7777, st.Uid, st.Gid); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

func TestPathsThatLeadOut(t *testing.T) {
	dir := t.TempDir()
	root := open(t, dir)
	defer root.Close()
	for _, name := range []string{"", ".", "..", "../x", "/x", "..x", "a/../../x", "a//b", "a/"} {
		if _, err := Write(root, payload(map[string]string{name: "1"}), time.Now()); err == nil {
			t.Errorf("%q was written", name)
		}
	}
	if all, _ := os.ReadDir(dir); len(all) != 0 {
		t.Errorf("left %v", all)
	}
}

// CVE-2017-1002102: a link inside the volume must not lead the daemon out of it.
func TestLinksInTheVolumeAreNotFollowedOut(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(path.Join(outside, "precious"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{dataLink, newDataLink, "..2020_01_01_00_00_00.000000000", "a"} {
		root := open(t, t.TempDir())
		if err := root.Symlink(outside, link); err != nil {
			t.Fatal(err)
		}
		_, err := Write(root, payload(map[string]string{"a": "1", "b": "2"}), time.Now())
		if link == "a" && err == nil {
			t.Error("a name that is taken by something else was no error")
		}
		if link != "a" && err != nil {
			t.Errorf("%s: %v", link, err)
		}
		root.Close()
	}
	all, err := os.ReadDir(outside)
	if err != nil || len(all) != 1 || all[0].Name() != "precious" {
		t.Fatalf("outside: %v, %v", all, err)
	}
}

func TestRead(t *testing.T) {
	root := open(t, t.TempDir())
	defer root.Close()
	if Written(root) {
		t.Fatal("written before the first write")
	}
	if _, err := Read(root, "a/b"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("got %v", err)
	}
	if _, err := Write(root, payload(map[string]string{"a/b": "1"}), time.Now()); err != nil {
		t.Fatal(err)
	}
	if data, err := Read(root, "a/b"); err != nil || string(data) != "1" || !Written(root) {
		t.Fatalf("got %q, %v", data, err)
	}
}
