// Package mounttest runs the tests of a package in a mount namespace of their
// own, so that nothing they mount can be seen outside or stays behind. It is
// part of no flow.
//
// Touches: starts the test binary once more.
//
// Invariants: without root the tests run as they are, and skip what needs mounts.
package mounttest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// inside marks the process in the namespace; its value are the directories to hide.
const inside = "NODELET_TEST_MOUNT_NAMESPACE"

// Main is the TestMain of a package that mounts: os.Exit(mounttest.Main(m)).
//
// The directories of hide, which must exist, are empty inside, and what the tests write there
// goes with them: for programs that keep files at paths that cannot be chosen.
func Main(m *testing.M, hide ...string) (code int) {
	if os.Geteuid() != 0 {
		return m.Run()
	}
	if dirs, is := os.LookupEnv(inside); is {
		if err := cover(strings.Fields(dirs)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"="+strings.Join(hide, " "))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// Unsharing makes all mounts private first, so that none propagates to the host.
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return exit.ExitCode()
	case err != nil:
		fmt.Fprintln(os.Stderr, "run the tests in a mount namespace:", err)
		return 1
	}
	return 0
}

// cover mounts an empty file system over each directory.
func cover(dirs []string) error {
	for _, dir := range dirs {
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"); err != nil {
			return fmt.Errorf("hide %s from the tests: %w", dir, err)
		}
	}
	return nil
}

// NeedRoot skips a test that cannot mount.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
}
