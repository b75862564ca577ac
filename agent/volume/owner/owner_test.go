package owner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func need(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: gives files to other groups")
	}
}

func state(t *testing.T, path string) string {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%04o %d:%d", st.Mode&0o7777, st.Uid, st.Gid)
}

func volume(t *testing.T) (root, outside string) {
	t.Helper()
	need(t)
	root, outside = t.TempDir(), filepath.Join(t.TempDir(), "outside")
	for path, mode := range map[string]os.FileMode{filepath.Join(root, "f"): 0o600, outside: 0o600} {
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(root, "sub/deep"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(root, "sub/link")); err != nil {
		t.Fatal(err)
	}
	return root, outside
}

func TestApplyGivesAllToTheGroupAndFollowsNoLink(t *testing.T) {
	root, outside := volume(t)
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Apply(t.Context(), root, Change{GID: 2000}); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"": "2775 0:2000", "f": "0660 0:2000", "sub": "2770 0:2000", "sub/deep": "2770 0:2000", "sub/link": "0777 0:2000",
	} {
		if got := state(t, filepath.Join(root, path)); got != want {
			t.Errorf("%q: %s, want %s", path, got, want)
		}
	}
	if got := state(t, outside); got != "0600 0:0" {
		t.Errorf("behind the link: %s", got)
	}
}

func TestOnlyOnMismatchTrustsTheRoot(t *testing.T) {
	root, _ := volume(t)
	if err := Apply(t.Context(), root, Change{GID: 2000, OnlyOnMismatch: true}); err != nil {
		t.Fatal(err)
	}
	late := filepath.Join(root, "late")
	if err := os.WriteFile(late, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(late, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := Apply(t.Context(), root, Change{GID: 2000, OnlyOnMismatch: true}); err != nil {
		t.Fatal(err)
	}
	if got := state(t, late); got != "0600 0:0" {
		t.Errorf("the root was right, but its content was changed: %s", got)
	}
	if err := Apply(t.Context(), root, Change{GID: 2000}); err != nil {
		t.Fatal(err)
	}
	if got := state(t, late); got != "0660 0:2000" {
		t.Errorf("late: %s", got)
	}
}

// An attempt that is cut short must not look finished to the next.
func TestAnInterruptedChangeIsDoneAgain(t *testing.T) {
	root, _ := volume(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Apply(ctx, root, Change{GID: 2000, OnlyOnMismatch: true}); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if err := Apply(t.Context(), root, Change{GID: 2000, OnlyOnMismatch: true}); err != nil {
		t.Fatal(err)
	}
	if got := state(t, filepath.Join(root, "f")); got != "0660 0:2000" {
		t.Errorf("f: %s", got)
	}
}
