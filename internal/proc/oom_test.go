package proc

import (
	"os"
	"path/filepath"
	"testing"
)

func TestSetOOMScore(t *testing.T) {
	root := t.TempDir()
	file := filepath.Join(root, "self/oom_score_adj")
	if err := SetOOMScore(root, -5); err == nil {
		t.Error("no error where there is no such file")
	}
	if err := os.Mkdir(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := SetOOMScore(root, -5); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(file); string(got) != "-5" {
		t.Errorf("%q is written", got)
	}
}
