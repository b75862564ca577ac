package ebpf

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"nodelet/internal/netns"
	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
)

// trialIn names, for a child of TestKilledTrial, the cgroup to try in.
const trialIn = "NODELET_TEST_TRIAL_IN"

// TestTrialChild is the child of TestKilledTrial: it programs a sandbox and
// waits to be killed.
func TestTrialChild(t *testing.T) {
	root := os.Getenv(trialIn)
	if root == "" {
		t.Skip("is run by TestKilledTrial")
	}
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ns.Close() }()
	box, err := newSandbox(root)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = box.Close() }()
	b, err := New(box.Config(ns.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Apply(t.Context(), lb.Compile(config, lbtest.Many(2, 2).Snapshot())); err != nil {
		t.Fatal(err)
	}
	fmt.Println("ready in", box.parent)
	select {}
}

// TestKilledTrial: a process that is killed while it tries something leaves no
// mount, and a cgroup only until somebody looks.
func TestKilledTrial(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes cgroups")
	}
	tree, err := cgroupRoot()
	if err != nil {
		t.Skip(err)
	}
	root := filepath.Join(tree, fmt.Sprintf("nodelet-test-%d", os.Getpid()))
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		_, err := removeTrials(root)
		if err := errors.Join(err, os.Remove(root)); err != nil {
			t.Error(err)
		}
	})
	mounts := mountsWith(t, "nodelet")
	killed := killTrial(t, root)
	if empty, err := isEmpty(killed); err != nil || !empty {
		t.Fatalf("the killed trial's cgroup: empty %t, %v", empty, err)
	}
	if now := mountsWith(t, "nodelet"); now != mounts {
		t.Errorf("mounts after the kill:\n%s\nbefore:\n%s", now, mounts)
	}
	// The next trial removes it, but not one that runs.
	box, err := newSandbox(root)
	if err != nil {
		t.Fatal(err)
	}
	removed, err := removeTrials(root)
	if err != nil || len(removed) > 0 {
		t.Errorf("while a trial runs, removed %v, %v", removed, err)
	}
	if dirs, err := trialsBelow(root); err != nil || len(dirs) != 1 || dirs[0] != box.parent {
		t.Errorf("beside the trial %s there are %v, %v", box.parent, dirs, err)
	}
	if _, err := os.Stat(box.node); err != nil {
		t.Errorf("of the trial that runs something was removed: %v", err)
	}
	if err := box.Close(); err != nil {
		t.Error(err)
	}
	// And so does a reset.
	killed = killTrial(t, root)
	if removed, err := removeTrials(root); err != nil || len(removed) != 1 || removed[0] != killed {
		t.Errorf("removed %v, %v; want %s", removed, err, killed)
	}
}

// killTrial gives the cgroup of a trial that was killed at work.
func killTrial(t *testing.T, root string) string {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^TestTrialChild$", "-test.v")
	child.Env = append(os.Environ(), trialIn+"="+root)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var said []string
	dir := ""
	for lines := bufio.NewScanner(out); dir == "" && lines.Scan(); said = append(said, lines.Text()) {
		_, dir, _ = strings.Cut(lines.Text(), "ready in ")
	}
	if err := child.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = child.Wait()
	if dir == "" || filepath.Dir(dir) != root {
		t.Fatalf("the child never was ready:\n%s", strings.Join(said, "\n"))
	}
	return dir
}

// mountsWith lists this process's mounts below paths with a word.
func mountsWith(t *testing.T, word string) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, word) && strings.Contains(line, " bpf ") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}

// TestTwoSandboxes: a second one takes the process along; the first, without
// a process now, is not taken for a left one.
func TestTwoSandboxes(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes cgroups")
	}
	if _, err := cgroupRoot(); err != nil {
		t.Skip(err)
	}
	first, err := NewSandbox()
	if err != nil {
		t.Fatal(err)
	}
	second, err := NewSandbox()
	if err != nil {
		t.Fatal(errors.Join(err, first.Close()))
	}
	if err := RemoveTrials(); err != nil {
		t.Error(err)
	}
	for _, box := range []*Sandbox{first, second} {
		if _, err := os.Stat(box.node); err != nil {
			t.Error(err)
		}
	}
	if err := errors.Join(first.Close(), second.Close()); err != nil {
		t.Error(err)
	}
	for _, box := range []*Sandbox{first, second} {
		if _, err := os.Stat(box.parent); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", box.parent, err)
		}
	}
}
