package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"nodelet/agent/volume/mount"
)

// Cleanup removes the volumes and files of all pods below the kubelet root, for
// a node that is reset: no pod runs any more. What is behind a mount that
// cannot be taken away stays.
func Cleanup(root string) error {
	dir := filepath.Join(root, "pods")
	if there, err := exists(dir); err != nil || !there {
		return err
	}
	if err := mount.UnmountBelow(dir); err != nil {
		return fmt.Errorf("remove volumes of all pods: %w", err)
	}
	if err := mount.RemoveTree(dir); err != nil {
		return fmt.Errorf("remove volumes of all pods: %w", err)
	}
	// The root itself may hold what others put there, such as drivers' sockets.
	_ = os.Remove(root)
	return nil
}

// Residue lists what Cleanup would remove.
func Residue(root string) ([]string, error) {
	dir := filepath.Join(root, "pods")
	var left []string
	mounts, err := mount.Below(dir)
	for _, m := range mounts {
		left = append(left, "mount "+m)
	}
	entries, err2 := os.ReadDir(dir)
	if errors.Is(err2, os.ErrNotExist) {
		err2 = nil
	}
	for _, e := range entries {
		left = append(left, "directory "+filepath.Join(dir, e.Name()))
	}
	return left, errors.Join(err, err2)
}
