package embedded

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// link makes place a symbolic link to target, in one step.
func link(target, place string) error {
	if have, err := os.Readlink(place); err == nil && have == target {
		return nil
	}
	temp := place + ".link"
	_ = os.Remove(temp) // of a predecessor that was killed
	err := os.MkdirAll(filepath.Dir(place), 0o711)
	if err == nil {
		err = os.Symlink(target, temp)
	}
	if err == nil {
		err = os.Rename(temp, place)
	}
	if err != nil {
		return fmt.Errorf("link %s to %s: %w", place, target, err)
	}
	return nil
}

func copyFile(from, to string) error {
	file, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	return writeFile(to, file)
}

// writeFile writes a file and puts it into its place when it is whole and on the disk.
func writeFile(path string, content io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temp.Name()) }()
	_, err = io.Copy(temp, content)
	if err := errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return err
	}
	return os.Rename(temp.Name(), path)
}

// add adds a file to an archive with the size it has now, even if it grows meanwhile.
func add(archive *tar.Writer, name, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: info.Size()}); err != nil {
		return err
	}
	_, err = io.CopyN(archive, file, info.Size())
	return err
}

func rewind(file *os.File) error {
	_, err := file.Seek(0, io.SeekStart)
	return err
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
