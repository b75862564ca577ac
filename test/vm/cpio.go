package main

import (
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

// cpio writes an archive in the "newc" format that the kernel unpacks as its
// first file system (Documentation/driver-api/early-userspace/buffer-format.rst).
type cpio struct {
	w    io.Writer
	err  error
	n    int // bytes written
	ino  int
	made map[string]bool
}

func newCPIO(w io.Writer) *cpio { return &cpio{w: w, made: map[string]bool{"/": true}} }

// The kinds of files, as in st_mode.
const (
	kindDir  = 0o040000
	kindFile = 0o100000
	kindLink = 0o120000
)

// Dir makes a directory and those above it.
func (c *cpio) Dir(name string) {
	if name = path.Clean("/" + name); c.made[name] {
		return
	}
	c.Dir(path.Dir(name))
	c.entry(name, kindDir|0o755, nil)
}

// Link makes a symbolic link.
func (c *cpio) Link(name, target string) {
	c.Dir(path.Dir(name))
	c.entry(name, kindLink|0o777, []byte(target))
}

// File makes a file; what is there already stays.
func (c *cpio) File(name string, mode fs.FileMode, content []byte) {
	c.Dir(path.Dir(name))
	c.entry(name, kindFile|uint32(mode.Perm()), content)
}

// Close ends the archive and gives the first error of all that was written.
func (c *cpio) Close() error {
	c.entry("TRAILER!!!", 0, nil)
	return c.err
}

func (c *cpio) entry(name string, mode uint32, content []byte) {
	if name = path.Clean(name); c.made[name] {
		return
	}
	c.made[name] = true
	c.ino++
	name = strings.TrimPrefix(name, "/")
	c.write(fmt.Appendf(nil, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		c.ino, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0, name))
	c.pad()
	c.write(content)
	c.pad()
}

// pad fills up to four bytes.
func (c *cpio) pad() { c.write(make([]byte, -c.n&3)) }

func (c *cpio) write(b []byte) {
	if c.err == nil {
		_, c.err = c.w.Write(b)
		c.n += len(b)
	}
}
