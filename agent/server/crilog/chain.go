package crilog

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// chain is the files one log consists of over time: NAME is the one that is written, NAME.SUFFIX
// those it was before, oldest first by name; the oldest may be compressed to NAME.SUFFIX.gz.
type chain struct {
	dir  *os.Root
	base string
}

// open opens the file that is written. Between the two steps of a rotation there is none: then the
// one that was written last.
func (c *chain) open() (*os.File, error) {
	f, err := c.dir.Open(c.base)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	rotated, listErr := c.rotated()
	if listErr != nil || len(rotated) == 0 {
		return nil, err
	}
	last := rotated[len(rotated)-1]
	if strings.HasSuffix(last, ".gz") { // long closed
		return nil, err
	}
	return c.dir.Open(last)
}

// rotated names the files of the past in the order they were written.
func (c *chain) rotated() ([]string, error) {
	d, err := c.dir.Open(".")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	all, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(name string) bool {
		// .tmp is a compressed file in the making.
		return !strings.HasPrefix(name, c.base+".") || strings.HasSuffix(name, ".tmp")
	})
	slices.SortFunc(all, func(a, b string) int { return strings.Compare(uncompressed(a), uncompressed(b)) })
	// While a file is being compressed both forms may exist; the plain one is complete.
	return slices.CompactFunc(all, func(a, b string) bool { return uncompressed(a) == uncompressed(b) }), nil
}

func uncompressed(name string) string { return strings.TrimSuffix(name, ".gz") }

// successor is the file that comes after another one.
type successor struct {
	name string
	// current: it is the one that is written now, so that the runtime may not be quite done with the one before.
	current bool
}

// after finds the file that comes after f; false when f is the one that is written.
func (c *chain) after(f *os.File) (successor, bool, error) {
	mine, err := f.Stat()
	if err != nil {
		return successor{}, false, err
	}
	now, err := c.dir.Stat(c.base)
	switch {
	case err == nil && os.SameFile(mine, now):
		return successor{}, false, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return successor{}, false, err
	}
	exists := err == nil
	rotated, err := c.rotated()
	if err != nil {
		return successor{}, false, err
	}
	name := nameOf(f)
	for _, r := range rotated {
		if name != c.base && uncompressed(r) > name {
			return successor{name: r}, true, nil
		}
	}
	return successor{name: c.base, current: true}, exists, nil
}

// openAfter opens the file that comes after f. Files may be renamed and compressed while it looks;
// what it gives is the direct successor nevertheless. Nil means that there is none any more.
func (c *chain) openAfter(f *os.File) (*os.File, error) {
	for {
		next, ok, err := c.after(f)
		if err != nil || !ok {
			return nil, err
		}
		g, err := c.dir.Open(next.name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it has another name now
		}
		if err != nil || !next.current {
			return g, err
		}
		// The file that is written may be one further on than a moment ago.
		again, ok, err := c.after(f)
		if err == nil && ok && (again.current || sameFile(c.dir, again.name, g)) {
			return g, nil
		}
		if err = errors.Join(err, g.Close()); err != nil {
			return nil, err
		}
	}
}

func sameFile(dir *os.Root, name string, f *os.File) bool {
	a, err := dir.Stat(name)
	if err != nil {
		return false
	}
	b, err := f.Stat()
	return err == nil && os.SameFile(a, b)
}

// nameOf is the name an open file has now, however it was renamed since; when it was deleted, the
// last one it had.
func nameOf(f *os.File) string {
	link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		return filepath.Base(f.Name())
	}
	return uncompressed(filepath.Base(strings.TrimSuffix(link, " (deleted)")))
}

// source is a file as it is read: decompressed where it is compressed.
type source struct {
	*os.File
	r io.Reader
}

func newSource(f *os.File) (*source, error) {
	s := &source{File: f, r: f}
	if strings.HasSuffix(f.Name(), ".gz") {
		z, err := gzip.NewReader(f)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("read %s: %w", f.Name(), err), f.Close())
		}
		s.r = z
	}
	return s, nil
}

// Read reads the content.
func (s *source) Read(p []byte) (int, error) { return s.r.Read(p) }
