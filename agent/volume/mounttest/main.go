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
	"syscall"
	"testing"
)

const inside = "NODELET_TEST_MOUNT_NAMESPACE"

// Main is the TestMain of a package that mounts: os.Exit(mounttest.Main(m)).
func Main(m *testing.M) (code int) {
	if os.Geteuid() != 0 || os.Getenv(inside) != "" {
		return m.Run()
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
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

// NeedRoot skips a test that cannot mount.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
}
