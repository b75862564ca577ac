package durable

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestWrite(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	dir := t.TempDir()
	path, outside := filepath.Join(dir, "file"), filepath.Join(dir, "outside")
	if err := os.WriteFile(outside, []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	// What a killed writer, or somebody else, left under the temporary name.
	if err := os.Symlink(outside, path+".tmp"); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []fs.FileMode{Public, Secret} {
		if err := Write(path, []byte(mode.String()), mode); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != mode {
			t.Errorf("mode %v, want %v", info.Mode(), mode)
		}
		if data, err := os.ReadFile(path); err != nil || string(data) != mode.String() {
			t.Errorf("content %q %v", data, err)
		}
	}
	if data, err := os.ReadFile(outside); err != nil || string(data) != "theirs" {
		t.Errorf("wrote through a link: %q %v", data, err)
	}
	if _, err := os.Lstat(path + ".tmp"); err == nil {
		t.Error("the temporary file stays")
	}
}

func TestWriteIfChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, step := range []struct {
		data string
		want bool
	}{{"a", true}, {"a", false}, {"b", true}} {
		if err := os.Chmod(path, 0o644); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		changed, err := WriteIfChanged(path, []byte(step.data), Secret)
		if err != nil || changed != step.want {
			t.Errorf("%q: changed %v %v, want %v", step.data, changed, err, step.want)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != Secret {
			t.Errorf("%q: mode %v %v", step.data, info.Mode(), err)
		}
	}
}

func TestDirTightens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b")
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Dir(path, Private); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != Private {
		t.Errorf("mode %v %v", info.Mode(), err)
	}
	if err := os.WriteFile(filepath.Join(path, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Dir(filepath.Join(path, "f"), Private); err == nil {
		t.Error("a file passes for a folder")
	}
}
