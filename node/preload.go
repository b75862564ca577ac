package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"nodelet/internal/reconcile"
	"nodelet/internal/store"
)

// preloadInterval is how often the directory is looked at for new archives.
const preloadInterval = time.Minute

// preloader imports the image archives that somebody has put into a directory, for nodes without a
// registry. What was imported stays imported: it is not collected as unused.
type preloader struct {
	n *Node
	// dir has the archives; notes is a file in it that remembers which were imported.
	dir, notes string
	// load imports one archive and gives the names of its images.
	load func(ctx context.Context, path string) ([]string, error)

	mu       sync.Mutex
	imported map[string]archive // by file name
}

// archive is one file as it was when it was imported.
type archive struct {
	Size, Modified int64
	Images         []string
}

func newPreloader(n *Node) *preloader {
	p := &preloader{n: n, dir: filepath.Join(n.cfg.Layout.Data, "images"), imported: map[string]archive{}}
	p.load = p.importFile
	p.notes = filepath.Join(p.dir, ".imported.json")
	if b, err := os.ReadFile(p.notes); err == nil && json.Unmarshal(b, &p.imported) != nil {
		p.imported = map[string]archive{} // damaged: all are imported again, which is harmless
	}
	return p
}

// run imports what is there, and looks again from time to time, until ctx ends.
func (p *preloader) run(ctx context.Context) error {
	loop := reconcile.Loop{
		Name: "preload images", Store: p.n.store, Log: p.n.deps.Log, Health: p.n.watchHealth("preload images"),
		Relevant: func(_, _ *store.Snapshot) bool { return false },
		Resync:   preloadInterval,
		Sync:     func(ctx context.Context, _, _ *store.Snapshot) error { return p.look(ctx) },
	}
	return loop.Run(ctx)
}

// look imports the archives that are new. One that is no archive is said once, and does not keep the others.
func (p *preloader) look(ctx context.Context) error {
	entries, err := os.ReadDir(p.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for image archives: %w", err)
	}
	changed := false
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || !isArchive(e.Name()) {
			continue
		}
		now := archive{Size: info.Size(), Modified: info.ModTime().UnixNano()}
		if old, ok := p.known(e.Name()); ok && old.Size == now.Size && old.Modified == now.Modified {
			continue
		}
		if now.Images, err = p.load(ctx, filepath.Join(p.dir, e.Name())); ctx.Err() != nil {
			return nil
		} else if err != nil {
			p.n.deps.Log.Error("preload images", "file", e.Name(), "err", err)
		} else {
			p.n.deps.Log.Info("images preloaded", "file", e.Name(), "images", now.Images)
		}
		p.note(e.Name(), now)
		changed = true
	}
	if !changed {
		return nil
	}
	return p.save()
}

func (p *preloader) known(name string) (archive, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a, ok := p.imported[name]
	return a, ok
}

func (p *preloader) note(name string, a archive) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.imported[name] = a
}

// keep tells whether an image was preloaded.
func (p *preloader) keep(image string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.imported {
		if slices.Contains(a.Images, image) {
			return true
		}
	}
	return false
}

func (p *preloader) save() error {
	p.mu.Lock()
	b, err := json.Marshal(p.imported)
	p.mu.Unlock()
	if err != nil {
		return fmt.Errorf("note the preloaded images: %w", err)
	}
	if err := os.WriteFile(p.notes, b, 0o600); err != nil {
		return fmt.Errorf("note the preloaded images: %w", err)
	}
	return nil
}

func (p *preloader) importFile(ctx context.Context, path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return p.n.runtime.Load().importImages(ctx, f)
}

func isArchive(name string) bool {
	for _, end := range []string{".tar", ".tar.gz", ".tgz"} {
		if strings.HasSuffix(name, end) {
			return true
		}
	}
	return false
}
