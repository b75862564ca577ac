package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"nodelet/agent/volume/csi"
	"nodelet/agent/volume/mount"
)

// Cleanup removes the volumes and files of all pods below the kubelet root, for
// a node that is reset: no pod runs any more. What is behind a mount that
// cannot be taken away stays.
func Cleanup(root string) error {
	for _, dir := range ours(root) {
		if there, err := exists(dir); err != nil || !there {
			if err != nil {
				return err
			}
			continue
		}
		if err := mount.UnmountBelow(dir); err != nil {
			return fmt.Errorf("remove volumes of all pods: %w", err)
		}
		if err := mount.RemoveTree(dir); err != nil {
			return fmt.Errorf("remove volumes of all pods: %w", err)
		}
	}
	// The root itself may hold what others put there, such as drivers' sockets.
	_ = os.Remove(root)
	return nil
}

// ours are the directories that hold nothing but volumes: those of pods, then
// what CSI drivers staged for them.
func ours(root string) []string { return []string{filepath.Join(root, "pods"), csi.Globals(root)} }

// Residue lists what Cleanup would remove.
func Residue(root string) ([]string, error) {
	var left []string
	var errs []error
	for _, dir := range ours(root) {
		mounts, err := mount.Below(dir)
		errs = append(errs, err)
		for _, m := range mounts {
			left = append(left, "mount "+m)
		}
		entries, err := os.ReadDir(dir)
		if !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
		for _, e := range entries {
			left = append(left, "directory "+filepath.Join(dir, e.Name()))
		}
	}
	return left, errors.Join(errs...)
}
