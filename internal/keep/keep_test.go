package keep_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"nodelet/internal/keep"
)

func open(t testing.TB, path, boot string) (*keep.File[int], map[string]int) {
	t.Helper()
	f, all, err := keep.Open[int](path, boot)
	if err != nil {
		t.Fatal(err)
	}
	return f, all
}

// TestWhatWasPutIsThere: any history of changes and restarts, with the last line torn or not.
func TestWhatWasPutIsThere(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(r *rapid.T) {
		n++
		path := filepath.Join(dir, fmt.Sprint(n), "state")
		want := map[string]int{}
		f, _ := open(t, path, "b")
		for range rapid.IntRange(1, 60).Draw(r, "changes") {
			key := rapid.StringMatching(`[a-c/"\n]{1,2}`).Draw(r, "key")
			switch rapid.IntRange(0, 4).Draw(r, "what") {
			case 0:
				delete(want, key)
				if err := f.Delete(key); err != nil {
					t.Fatal(err)
				}
			case 1:
				if w, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0); err == nil {
					_, _ = w.WriteString(`{"k":"a","v":7`) // what a killed process has left
					w.Close()
				}
				f.Close()
				var got map[string]int
				f, got = open(t, path, "b")
				if diff := cmp.Diff(want, got); diff != "" {
					r.Fatalf("after a restart (-want +got):\n%s", diff)
				}
			default:
				want[key] = rapid.Int().Draw(r, "value")
				if err := f.Put(key, want[key]); err != nil {
					t.Fatal(err)
				}
			}
		}
		f.Close()
	})
}

func TestAnotherBootIsEmpty(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	f, _ := open(t, path, "before")
	if err := f.Put("a", 1); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, all := open(t, path, "after"); len(all) != 0 {
		t.Errorf("of another boot: %v", all)
	}
}

func TestDamagedFilesAreEmpty(t *testing.T) {
	for _, content := range []string{"", "{", "null\n", `{"format":9,"boot":"b"}` + "\n" + `{"k":"a","v":1}` + "\n", `{"format":1,"boot":"b"}` + "\n" + `{"k":"a","v":"text"}` + "\n"} {
		path := filepath.Join(t.TempDir(), "state")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		f, all := open(t, path, "b")
		if len(all) != 0 {
			t.Errorf("%q: %v", content, all)
		}
		if err := f.Put("x", 1); err != nil {
			t.Error(err)
		}
		f.Close()
		if _, all := open(t, path, "b"); all["x"] != 1 {
			t.Errorf("%q: what was put is not there: %v", content, all)
		}
	}
}

// TestDoesNotGrow: a value that changes for ever stays one value.
func TestDoesNotGrow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	f, _ := open(t, path, "b")
	defer f.Close()
	for i := range 5000 {
		if err := f.Put("a", i); err != nil {
			t.Fatal(err)
		}
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(content), "\n"); n > 1100 {
		t.Errorf("%d lines for one value", n)
	}
	before := len(content)
	if err := f.Put("a", 4999); err != nil {
		t.Fatal(err)
	}
	if content, _ = os.ReadFile(path); len(content) != before {
		t.Error("a value that is kept already was written again")
	}
}

// TestFullDisk: what could not be written is written with the next change that can.
func TestFullDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	path := filepath.Join(dir, "state")
	f, _ := open(t, path, "b")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := f.Put("a", 1); err == nil {
		t.Fatal("no error without a directory")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := f.Put("b", 2); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, all := open(t, path, "b"); all["a"] != 1 || all["b"] != 2 {
		t.Errorf("kept: %v", all)
	}
}
