package logs

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"nodelet/agent/logs/logplan"
)

// openDir opens the directory of a log without following a link out of the root, and gives the
// log's name in it.
func openDir(root, path string) (*os.Root, string, error) {
	rel, err := filepath.Rel(root, path)
	if err != nil || !filepath.IsLocal(rel) || rel == "." {
		return nil, "", fmt.Errorf("it is not below %s", root)
	}
	top, err := os.OpenRoot(root)
	if err != nil {
		return nil, "", err
	}
	defer top.Close()
	d, err := top.OpenRoot(filepath.Dir(rel))
	return d, filepath.Base(rel), err
}

// carryOut plans the rotation of a log and does it.
func carryOut(d *os.Root, log string, p logplan.Policy, reopen func() error) error {
	files, err := list(d)
	if err != nil {
		return err
	}
	for _, step := range logplan.Make(log, files, p, time.Now()) {
		switch s := step.(type) {
		case logplan.Remove:
			err = remove(d, s.Name)
		case logplan.Compress:
			err = compress(d, s)
		case logplan.Rotate:
			err = rename(d, s, reopen)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", step, err)
		}
	}
	return nil
}

func list(d *os.Root) ([]string, error) {
	dir, err := d.Open(".")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return dir.Readdirnames(-1)
}

func remove(d *os.Root, name string) error {
	if err := d.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// rename gives the log its new name and has the runtime begin a new file. When the runtime will not,
// the old name is put back, so that what it goes on writing is found where it belongs.
func rename(d *os.Root, s logplan.Rotate, reopen func() error) error {
	if err := d.Rename(s.Name, s.To); err != nil {
		return err
	}
	err := reopen()
	if err == nil {
		return nil
	}
	if _, statErr := d.Lstat(s.Name); !errors.Is(statErr, fs.ErrNotExist) {
		return err // it has begun one all the same
	}
	return errors.Join(err, d.Rename(s.To, s.Name))
}

// compress writes the compressed form beside the file, gives it its name when it is whole, and
// removes the file.
func compress(d *os.Root, s logplan.Compress) error {
	from, err := d.Open(s.Name)
	if err != nil {
		return err
	}
	defer from.Close()
	info, err := from.Stat()
	if err != nil {
		return err
	}
	to, err := d.OpenFile(s.Tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, info.Mode().Perm())
	if err != nil {
		return err
	}
	z := gzip.NewWriter(to)
	_, err = io.Copy(z, from)
	if err = errors.Join(err, z.Close(), to.Close()); err == nil {
		err = d.Rename(s.Tmp, s.To)
	}
	if err != nil {
		return errors.Join(err, remove(d, s.Tmp))
	}
	return remove(d, s.Name)
}
