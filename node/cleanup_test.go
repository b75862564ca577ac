package node

import (
	"os"
	"path/filepath"
	"testing"
)

// Empty directories of the kubelet root go with a reset; what somebody else keeps there stays.
func TestKubeletDirsGoWhenEmpty(t *testing.T) {
	for _, theirs := range []string{"", "plugins/example.com/csi.sock", "config.json"} {
		root := filepath.Join(t.TempDir(), "kubelet")
		for _, dir := range []string{"device-plugins", "pod-resources", "plugins", "plugins_registry"} {
			if err := os.MkdirAll(filepath.Join(root, dir), 0o750); err != nil {
				t.Fatal(err)
			}
		}
		file := filepath.Join(root, theirs)
		if theirs != "" {
			if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 { // also when nothing is there any more
			if err := removeKubeletDirs(root); err != nil {
				t.Error(err)
			}
		}
		if _, err := os.Stat(file); (err == nil) != (theirs != "") {
			t.Errorf("%q: %v", theirs, err)
		}
		if _, err := os.Stat(filepath.Join(root, "plugins_registry")); err == nil {
			t.Errorf("%q: an empty directory is left", theirs)
		}
	}
}
