package durable

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Modes of what the control plane writes.
const (
	// Secret is for private keys and everything that contains one.
	Secret fs.FileMode = 0o600
	// Public is for certificates and public keys.
	Public fs.FileMode = 0o644
	// Private is for folders with secrets in them.
	Private fs.FileMode = 0o700
)

// Write puts data under path with exactly mode, through a temporary file that
// is synced and then renamed.
func Write(path string, data []byte, mode fs.FileMode) error {
	tmp := path + ".tmp"
	if err := writeSynced(tmp, data, mode); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

// WriteIfChanged is Write when path does not hold data yet. Where it does,
// only the mode is put right. It reports whether the content changed.
func WriteIfChanged(path string, data []byte, mode fs.FileMode) (bool, error) {
	old, err := os.ReadFile(path)
	if err == nil && bytes.Equal(old, data) {
		return false, os.Chmod(path, mode)
	}
	return true, Write(path, data, mode)
}

// Dir makes path and its missing parents, and gives path itself exactly mode.
func Dir(path string, mode fs.FileMode) error {
	if err := os.MkdirAll(path, mode); err != nil {
		return fmt.Errorf("make folder %s: %w", path, err)
	}
	if err := os.Chmod(path, mode); err != nil {
		return fmt.Errorf("set mode of folder %s: %w", path, err)
	}
	return nil
}

func writeSynced(path string, data []byte, mode fs.FileMode) error {
	// A leftover may be a link or have another mode: never write through it.
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Chmod(mode); err != nil { // the umask may have taken bits
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync folder %s: %w", path, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync folder %s: %w", path, err)
	}
	return nil
}
