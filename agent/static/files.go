package static

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"nodelet/agent/static/manifest"
	"nodelet/agent/static/staticplan"
	"nodelet/internal/inotify"
)

// readFiles reads all manifests of the path. A path that is not there holds none.
func (s *Static) readFiles() ([]staticplan.Found, error) {
	if s.cfg.Path == "" {
		return nil, nil
	}
	info, err := os.Stat(s.cfg.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("look at static pod path: %w", err)
	case !info.IsDir():
		return []staticplan.Found{s.readFile(s.cfg.Path)}, nil
	}
	entries, err := os.ReadDir(s.cfg.Path) // in the order of names
	if err != nil {
		return nil, fmt.Errorf("list static pod path: %w", err)
	}
	var found []staticplan.Found
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		f := s.readFile(filepath.Join(s.cfg.Path, e.Name()))
		if !errors.Is(f.Err, fs.ErrNotExist) { // it went while we looked, or leads nowhere
			found = append(found, f)
		}
	}
	return found, nil
}

func (s *Static) readFile(path string) staticplan.Found {
	data, err := readRegular(path)
	if err != nil {
		return staticplan.Found{Place: path, Err: err}
	}
	return s.parse(data, manifest.File, path)
}

func (s *Static) parse(data []byte, source, place string) staticplan.Found {
	pod, warnings, err := manifest.Parse(data, manifest.Origin{Node: s.cfg.NodeName, Source: source, Place: place})
	for _, w := range warnings {
		s.warn(place, w)
	}
	return staticplan.Found{Place: place, Pod: pod, Err: err}
}

// warn logs once what a manifest says in vain.
func (s *Static) warn(place, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := place + "\n" + text
	if !s.warned[key] {
		s.warned[key] = true
		s.deps.Log.Warn("static pod manifest", "manifest", place, "warning", text)
	}
}

// readRegular reads a file, without waiting for anybody to write to it.
func readRegular(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("is no regular file: manifests are files, directories in it are not looked into")
	}
	return io.ReadAll(io.LimitReader(f, manifest.MaxBytes+1))
}

// settle is how long a change is let stand before the directory is read: a
// file is mostly written a moment after it was made.
const settle = 50 * time.Millisecond

// watch has the kernel tell of changes in a directory that may come and go.
type watch struct {
	mu     sync.Mutex
	file   *os.File
	dir    string
	inode  uint64
	closed bool
	wg     sync.WaitGroup
}

// keep sees to it that changes of the path lead to news. Where the kernel does
// not help, the path is read at intervals all the same.
func (w *watch) keep(ctx context.Context, path string, news chan<- struct{}) {
	if path == "" {
		return
	}
	dir := path
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		dir = filepath.Dir(path)
		info, err = os.Stat(dir)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil || w.closed {
		w.drop()
		return
	}
	inode := uint64(0)
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		inode = st.Ino
	}
	if w.file != nil && w.dir == dir && w.inode == inode {
		return
	}
	w.drop()
	f, err := inotify.Watch(dir, inotify.Entries|inotify.Contents|inotify.Self)
	if err != nil {
		return
	}
	w.file, w.dir, w.inode = f, dir, inode
	w.wg.Go(func() { listen(ctx, f, news) })
}

// listen passes on that something changed.
func listen(ctx context.Context, f *os.File, news chan<- struct{}) {
	buf := make([]byte, 4096)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if _, err := f.Read(buf); err != nil {
			return // closed
		}
		timer.Reset(settle)
		select {
		case <-timer.C:
			signal(news)
		case <-ctx.Done():
			return
		}
	}
}

func (w *watch) drop() {
	if w.file != nil {
		_ = w.file.Close()
		w.file = nil
	}
}

func (w *watch) close() {
	w.mu.Lock()
	w.closed = true
	w.drop()
	w.mu.Unlock()
	w.wg.Wait()
}
