// Package bustest gives tests a D-Bus of their own in the place of the system's. It starts a dbus-daemon
// and knows nothing of who is on the bus. Flow: a test -> Private -> the package under test connects to it.
//
// Touches: a process and a socket of the test's own, the variable DBUS_SYSTEM_BUS_ADDRESS.
//
// Invariants: all of it ends with the test.
package bustest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// Private starts a bus that takes the place of the system's for this test, and connects to it.
func Private(t *testing.T) *dbus.Conn {
	t.Helper()
	program, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Skip("needs dbus-daemon (package dbus)")
	}
	dir, err := os.MkdirTemp("", "db") //nolint:usetesting // its long names would overflow the limit of unix socket paths
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	address := "unix:path=" + filepath.Join(dir, "bus")
	config := filepath.Join(dir, "bus.conf")
	text := fmt.Sprintf(`<busconfig><type>custom</type><listen>%s</listen><policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/><allow user="*"/></policy></busconfig>`, address)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	daemon := exec.Command(program, "--config-file="+config, "--nofork")
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = daemon.Process.Kill()
		_ = daemon.Wait()
	})
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
	var bus *dbus.Conn
	for deadline := time.Now().Add(20 * time.Second); bus == nil; time.Sleep(10 * time.Millisecond) {
		bus, err = dbus.ConnectSystemBus()
		if err != nil && time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = bus.Close() })
	return bus
}
