package atomic

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

const (
	dataLink    = "..data"
	newDataLink = "..data_tmp"
	// stamp names the directories of the files; users' names never begin with two dots.
	stamp = "..2006_01_02_15_04_05.000000000"
)

// File is one file to write.
type File struct {
	// Path is relative, clean, and does not begin with two dots.
	Path string
	Data []byte
	Mode uint32
	// UID of the owner; -1 keeps the daemon's own.
	UID int64
}

// Payload is all that a directory should hold.
type Payload struct {
	Files []File
	// GID of all files and directories, -1 for the daemon's own; DirMode of the directories.
	GID     int64
	DirMode uint32
}

// Tree is the directory to write to: an *os.Root, or one with faults in a test.
type Tree interface {
	Mkdir(name string, perm fs.FileMode) error
	WriteFile(name string, data []byte, perm fs.FileMode) error
	ReadFile(name string) ([]byte, error)
	Open(name string) (*os.File, error)
	Chmod(name string, mode fs.FileMode) error
	Chown(name string, uid, gid int) error
	Symlink(oldname, newname string) error
	Readlink(name string) (string, error)
	Rename(oldname, newname string) error
	Remove(name string) error
	RemoveAll(name string) error
	Lstat(name string) (fs.FileInfo, error)
}

// Written reports whether a Write has ever succeeded in t.
func Written(t Tree) bool {
	_, err := current(t)
	return err == nil
}

// Write makes t hold the payload and reports whether anything had to change.
func Write(t Tree, p Payload, now time.Time) (changed bool, err error) {
	for _, f := range p.Files {
		if !fs.ValidPath(f.Path) || f.Path == "." || strings.HasPrefix(f.Path, "..") {
			return false, fmt.Errorf("write volume: path %q would lead out of it", f.Path)
		}
	}
	dir, err := current(t)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("write volume: %w", err)
	}
	if dir == "" || !holds(t, dir, p.Files) {
		changed = true
		if dir, err = fill(t, p, now); err != nil {
			return true, fmt.Errorf("write volume: %w", err)
		}
	}
	if err := publish(t, p, dir); err != nil {
		return changed, fmt.Errorf("write volume: %w", err)
	}
	return changed, nil
}

// Read gives the content of a file as the last Write left it.
func Read(t Tree, name string) ([]byte, error) {
	dir, err := current(t)
	if err != nil {
		return nil, err
	}
	return t.ReadFile(path.Join(dir, name))
}

// current gives the directory that ..data leads to. A link that was not made
// here counts as none.
func current(t Tree) (string, error) {
	dir, err := t.Readlink(dataLink)
	if err != nil {
		return "", err
	}
	if !stamped(dir) {
		return "", fmt.Errorf("link %s leads to %q: %w", dataLink, dir, fs.ErrNotExist)
	}
	if _, err := t.Lstat(dir); err != nil {
		return "", err
	}
	return dir, nil
}

// stamped reports whether name can be that of a directory of files: two dots
// begin no other name, whoever made it.
func stamped(name string) bool {
	return len(name) > 2 && strings.HasPrefix(name, "..") && name != dataLink && name != newDataLink && !strings.Contains(name, "/")
}

// holds reports whether dir has exactly these files with this content.
func holds(t Tree, dir string, files []File) bool {
	have := map[string]bool{}
	if !list(t, dir, "", have) || len(have) != len(files) {
		return false
	}
	for _, f := range files {
		data, err := t.ReadFile(path.Join(dir, f.Path))
		if err != nil || !bytes.Equal(data, f.Data) {
			return false
		}
	}
	return true
}

// list notes the paths of all files below dir/sub; false when that can't be told.
func list(t Tree, dir, sub string, into map[string]bool) bool {
	names, err := entries(t, path.Join(dir, sub))
	if err != nil {
		return false
	}
	for _, e := range names {
		p := path.Join(sub, e.Name())
		if !e.IsDir() {
			into[p] = true
		} else if !list(t, dir, p, into) {
			return false
		}
	}
	return true
}

func entries(t Tree, dir string) ([]fs.DirEntry, error) {
	f, err := t.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.ReadDir(-1)
}

// fill writes all files to a new directory that nobody sees yet.
func fill(t Tree, p Payload, now time.Time) (string, error) {
	dir := now.UTC().Format(stamp)
	err := t.Mkdir(dir, 0o700)
	for errors.Is(err, fs.ErrExist) {
		now = now.Add(1)
		dir = now.UTC().Format(stamp)
		err = t.Mkdir(dir, 0o700)
	}
	if err != nil {
		return "", err
	}
	w := filler{t, p, map[string]bool{dir: true}}
	for _, f := range p.Files {
		if err := w.file(path.Join(dir, f.Path), f); err != nil {
			return "", err
		}
	}
	return dir, w.own(dir, p.directory())
}

// directory is how a directory is owned.
func (p Payload) directory() File { return File{Mode: p.DirMode, UID: -1} }

// filler writes files and the directories above them.
type filler struct {
	t    Tree
	p    Payload
	made map[string]bool
}

func (w filler) file(name string, f File) error {
	if err := w.parents(path.Dir(name)); err != nil {
		return err
	}
	if err := w.t.WriteFile(name, f.Data, 0o600); err != nil {
		return err
	}
	return w.own(name, f)
}

// parents makes a directory and those above it, which ends at the one made first.
func (w filler) parents(dir string) error {
	if w.made[dir] {
		return nil
	}
	if err := w.parents(path.Dir(dir)); err != nil {
		return err
	}
	w.made[dir] = true
	if err := w.t.Mkdir(dir, 0o700); err != nil {
		return err
	}
	return w.own(dir, w.p.directory())
}

// own sets owner and mode, in this order: a change of owner clears the set-group-id bit.
func (w filler) own(name string, as File) error {
	if as.UID >= 0 || w.p.GID >= 0 {
		if err := w.t.Chown(name, int(as.UID), int(w.p.GID)); err != nil {
			return err
		}
	}
	return w.t.Chmod(name, FileMode(as.Mode))
}

// FileMode translates a kernel mode to Go's.
func FileMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	if mode&0o4000 != 0 {
		m |= fs.ModeSetuid
	}
	if mode&0o2000 != 0 {
		m |= fs.ModeSetgid
	}
	if mode&0o1000 != 0 {
		m |= fs.ModeSticky
	}
	return m
}

// publish makes ..data lead to dir, with the names users see, and removes all
// else that was made here.
func publish(t Tree, p Payload, dir string) error {
	names := visible(p.Files)
	for _, name := range names {
		target := path.Join(dataLink, name)
		if got, err := t.Readlink(name); err == nil && got == target {
			continue
		}
		if err := t.Symlink(target, name); err != nil {
			return err
		}
	}
	if got, err := t.Readlink(dataLink); err != nil || got != dir {
		if err := t.RemoveAll(newDataLink); err != nil {
			return err
		}
		if err := t.Symlink(dir, newDataLink); err != nil {
			return err
		}
		if err := t.Rename(newDataLink, dataLink); err != nil {
			return err
		}
	}
	return clear(t, dir, names)
}

// visible gives the first elements of all paths, sorted.
func visible(files []File) []string {
	var names []string
	for _, f := range files {
		first, _, _ := strings.Cut(f.Path, "/")
		names = append(names, first)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// clear removes links of names that are gone and directories of older files.
func clear(t Tree, dir string, names []string) error {
	all, err := entries(t, ".")
	if err != nil {
		return err
	}
	for _, e := range all {
		name := e.Name()
		switch {
		case name == newDataLink || stamped(name) && name != dir:
			err = t.RemoveAll(name)
		case e.Type()&fs.ModeSymlink != 0 && name != dataLink && !slices.Contains(names, name):
			if target, _ := t.Readlink(name); target == path.Join(dataLink, name) {
				err = t.Remove(name)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}
