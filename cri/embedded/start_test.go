package embedded

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestStartErrors: what an operator did wrong is said, with the way out.
func TestStartErrors(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("containerd's directories need root")
	}
	shim := filepath.Join(t.TempDir(), "containerd-shim-runc-v2")
	if err := os.WriteFile(shim, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"runc is missing", func(c *Config) { c.Runc = "no-such-runc" }, "apt-get install runc"},
		{"the shim is missing", func(c *Config) { c.Shim = "/nonexistent/shim" }, "make build"},
		{"relative path", func(c *Config) { c.CNIConfDir = "net.d" }, "not an absolute path"},
		{"root is state", func(c *Config) { c.State = c.Root }, "the same directory"},
		{"socket path too long", func(c *Config) { c.State = "/tmp/" + strings.Repeat("x", 100) }, "choose a shorter run directory"},
		{"unknown snapshotter", func(c *Config) { c.Snapshotter = "zfs" }, "choose overlayfs or native"},
		{"root is a file", func(c *Config) { c.Root = shim }, "make containerd's directory"},
		{"read-only root", func(c *Config) { c.Root = "/proc/containerd" }, "make containerd's directory"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			config := testConfig(dir)
			config.Shim, config.Runc = shim, "/bin/true"
			test.change(&config)
			server, err := Start(t.Context(), config, Deps{Log: slog.New(slog.DiscardHandler)})
			if err == nil {
				server.Stop()
				t.Fatal("it started")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("%q does not say %q", err, test.want)
			}
		})
	}
}

func TestRootInUse(t *testing.T) {
	m := newMachine(t)
	m.start()
	out, err := exec.Command("/proc/self/exe").CombinedOutput()
	if want := "it is in use by process "; err == nil || !strings.Contains(string(out), want) {
		t.Errorf("a second containerd: %v, %q does not say %q", err, out, want)
	}
	if err := Reset(t.Context(), m.config.Root, m.config.State); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("reset of a running containerd: %v", err)
	}
}

func TestChooseSnapshotter(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	plain, onOverlay := t.TempDir(), overlay(t)
	if err := tryOverlay(plain); err != nil {
		t.Skipf("no overlay can be mounted here: %v", err)
	}
	tests := []struct {
		name       string
		root       string
		configured string
		existing   string
		want       string
		err        string
	}{
		{name: "overlay works", root: plain, want: overlayfs},
		{name: "overlay on overlay does not", root: onOverlay, want: native},
		{name: "native by choice", root: plain, configured: native, want: native},
		{name: "overlay by choice where it does not work", root: onOverlay, configured: overlayfs, err: "choose another data directory"},
		{name: "the root holds native snapshots", root: plain, existing: native, want: native},
		{name: "the root holds overlays but was moved", root: onOverlay, existing: overlayfs, err: "choose another data directory"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.existing != "" {
				dir := filepath.Join(test.root, "io.containerd.snapshotter.v1."+test.existing)
				if err := os.MkdirAll(dir, 0o700); err != nil {
					t.Fatal(err)
				}
				defer os.RemoveAll(dir)
				if err := os.WriteFile(filepath.Join(dir, "metadata.db"), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := chooseSnapshotter(Config{Root: test.root, Snapshotter: test.configured})
			if got != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("got %q, %v; want %q, %q", got, err, test.want, test.err)
			}
			if _, err := os.Stat(filepath.Join(test.root, "overlay-trial")); !os.IsNotExist(err) {
				t.Errorf("the trial is still there (%v)", err)
			}
		})
	}
}

// overlay mounts an overlay as file system for a test.
func overlay(t *testing.T) string {
	t.Helper()
	base := t.TempDir()
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(base, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	merged := filepath.Join(base, "merged")
	if err := unix.Mount("overlay", merged, "overlay", 0, "lowerdir="+base+"/lower,upperdir="+base+"/upper,workdir="+base+"/work"); err != nil {
		t.Skipf("mount an overlay: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(merged, unix.MNT_DETACH) })
	return merged
}

func TestInstallShim(t *testing.T) {
	source, target := filepath.Join(t.TempDir(), "shim"), filepath.Join(t.TempDir(), "bin", "shim")
	install := func(content string) os.FileInfo {
		t.Helper()
		if err := os.WriteFile(source, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return installFrom(t, source, target, content)
	}
	first := install("one")
	if again := installFrom(t, source, target, "one"); !os.SameFile(first, again) {
		t.Error("the same shim was copied again")
	}
	if second := install("another"); os.SameFile(first, second) {
		t.Error("a new shim overwrote the one that runs")
	}
}

func installFrom(t *testing.T, source, target, content string) os.FileInfo {
	t.Helper()
	path, err := installShim(source, target)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != content {
		t.Fatalf("%s holds %q, %v; want %q", path, got, err, content)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Fatalf("%v, %v", info, err)
	}
	return info
}
