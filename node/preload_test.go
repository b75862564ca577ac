package node

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Archives are imported once, new and changed ones again; a broken one does not keep the others, and
// what was imported is known after a restart.
func TestPreload(t *testing.T) {
	n := &Node{deps: Deps{Log: slog.New(slog.DiscardHandler)}}
	n.cfg.Layout.Data = t.TempDir()
	dir := filepath.Join(n.cfg.Layout.Data, "images")
	var loaded []string
	start := func() *preloader {
		p := newPreloader(n)
		p.load = func(_ context.Context, path string) ([]string, error) {
			loaded = append(loaded, filepath.Base(path))
			if filepath.Base(path) == "broken.tar" {
				return nil, errors.New("no archive")
			}
			return []string{"image-of-" + filepath.Base(path)}, nil
		}
		return p
	}
	look := func(p *preloader, want ...string) {
		t.Helper()
		loaded = nil
		if err := p.look(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(loaded, want) {
			t.Errorf("loaded %q, want %q", loaded, want)
		}
	}
	put := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := start()
	look(p) // no directory
	if err := os.MkdirAll(filepath.Join(dir, "directory.tar"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a.tar", "b.tar.gz", "broken.tar", "c.tgz", "notes.txt"} {
		put(name, "x")
	}
	look(p, "a.tar", "b.tar.gz", "broken.tar", "c.tgz")
	look(p)
	put("a.tar", "longer")
	p = start()
	look(p, "a.tar")
	if !p.keep("image-of-b.tar.gz") || p.keep("other") {
		t.Error("it is not known which images were preloaded")
	}
	if err := os.WriteFile(p.notes, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	look(start(), "a.tar", "b.tar.gz", "broken.tar", "c.tgz")
}
