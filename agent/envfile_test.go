package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/agent/podplan"
)

func show(c *runtimev1.ContainerConfig) string {
	var b strings.Builder
	for _, e := range c.Envs {
		fmt.Fprintf(&b, "%s=%s ", e.Key, e.Value)
	}
	return b.String() + strings.Join(c.Command, " ") + "|" + strings.Join(c.Args, " ")
}

func TestFillEnv(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(t.TempDir(), "secret")
	for name, text := range map[string]string{filepath.Join(dir, "env"): "A='one $(B)'\nB='\x00file 0\x00'\n", outside: "A='stolen'\n", filepath.Join(dir, "bad"): "A=1"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"link": "env", "out": outside, "up": "../" + filepath.Base(filepath.Dir(outside)) + "/secret"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	large, err := os.Create(filepath.Join(dir, "large"))
	if err != nil {
		t.Fatal(err)
	}
	defer large.Close()
	if err := large.Truncate(maxEnvFile + 1); err != nil {
		t.Fatal(err)
	}
	const stand = "\x00file 0\x00"
	for _, test := range []struct {
		path, key string
		optional  bool
		want      string // or the error
	}{
		{"env", "A", false, "V=one $(B) W=<one $(B)> run one $(B)|-x=one $(B)"},
		{"link", "A", false, "V=one $(B) W=<one $(B)> run one $(B)|-x=one $(B)"},
		{"env", "C", true, "W=<$(V)> run $(V)|-x=$(V)"},
		{"none", "A", true, "W=<$(V)> run $(V)|-x=$(V)"},
		{"env", "C", false, `environment variable key "C" not found in file "env"`},
		{"env", "B", false, "NUL byte"},
		{"none", "A", false, "no such file"},
		{"bad", "A", true, "not in single quotes"},
		{"out", "A", true, "escapes"},
		{"up", "A", true, "escapes"},
		{"../x", "A", true, "escapes"},
		{"fifo", "A", true, "must be a file of at most"},
		{"large", "A", true, "must be a file of at most"},
		{".", "A", true, "must be a file of at most"},
	} {
		c := &runtimev1.ContainerConfig{
			Envs:    []*runtimev1.KeyValue{{Key: "V", Value: []byte(stand)}, {Key: "W", Value: []byte("<" + stand + ">")}},
			Command: []string{"run", stand}, Args: []string{"-x=" + stand},
		}
		err := fillEnv([]podplan.EnvFile{{Name: "V", Stand: stand, Dir: dir, Path: test.path, Key: test.key, Optional: test.optional}}, c)
		got := show(c)
		if err != nil {
			got = err.Error()
		}
		if got != test.want && (err == nil || !strings.Contains(got, test.want)) {
			t.Errorf("%s %s: %q, want %q", test.path, test.key, got, test.want)
		}
	}
}
