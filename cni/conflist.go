package cni

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"nodelet/cni/plugin"
)

// writeConfList replaces the file by rename: runtimes watch the directory and
// read at any moment. The temporary name does not end in .conflist, so that
// nobody takes it for a configuration.
func writeConfList(path string, network plugin.Config) (changed bool, err error) {
	text, err := network.ConfList()
	if err != nil {
		return false, err
	}
	old, err := os.ReadFile(path)
	if err == nil && bytes.Equal(old, text) {
		return false, nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, fmt.Errorf("read network configuration: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, fmt.Errorf("create network configuration directory: %w", err)
	}
	tmp := path + ".new"
	// Readable by everyone: runtimes need not run as root, and it holds no secret.
	if err := os.WriteFile(tmp, text, 0o644); err != nil {
		return false, errors.Join(fmt.Errorf("write network configuration: %w", err), os.Remove(tmp))
	}
	if err := os.Rename(tmp, path); err != nil {
		return false, fmt.Errorf("write network configuration: %w", err)
	}
	return true, nil
}
