package node

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

func TestSeccompProfileForAForeignRuntime(t *testing.T) {
	if _, err := os.Stat(seccompFeatures); err != nil {
		t.Skip("this kernel has no seccomp")
	}
	c := Config{Layout: Layout{Data: t.TempDir()}}
	path := c.foreignSeccomp(slog.New(slog.DiscardHandler))
	if content, err := os.ReadFile(path); err != nil || len(content) == 0 || path != c.Layout.SandboxSeccomp() {
		t.Fatalf("profile %q: %v", path, err)
	}
	if left := c.Layout.seccompResidue(); len(left) != 1 {
		t.Errorf("left %v", left)
	}
	if err := c.Layout.removeSeccomp(); err != nil || len(c.Layout.seccompResidue()) != 0 {
		t.Errorf("left %v, %v", c.Layout.seccompResidue(), err)
	}
	if err := c.Layout.removeSeccomp(); err != nil {
		t.Errorf("once more: %v", err)
	}
}

func TestSeccompProfileThatCannotBeWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c := Config{Layout: Layout{Data: file}}
	if path := c.foreignSeccomp(slog.New(slog.DiscardHandler)); path != "" {
		t.Errorf("profile %q below a file", path)
	}
}
