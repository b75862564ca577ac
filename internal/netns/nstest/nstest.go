// Package nstest lets a test have a network namespace of its own.
//
// Flow: Again -> the test binary once more, for this test only, as a process in an empty namespace.
//
// Touches: processes, namespaces.
//
// Invariants: the process ends with its parent; what it made in the namespace goes with it.
package nstest

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"nodelet/internal/netns"
)

// mark is set in the environment of the process in the namespace.
const mark = "NODELET_TEST_NAMESPACE"

// Again runs the calling test again in a process of its own in an empty network
// namespace, and says whether this is that process. A thread in a namespace
// would not do where goroutines are started. Without root the test is skipped.
func Again(t *testing.T) bool {
	t.Helper()
	if os.Getenv(mark) != "" {
		if err := netns.Disinherit(); err != nil {
			t.Fatal(err)
		}
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), mark+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("in the namespace: %v\n%s", err, out)
	}
	if testing.Verbose() || strings.Contains(string(out), "--- SKIP") {
		t.Logf("in the namespace:\n%s", out)
	}
	return false
}
