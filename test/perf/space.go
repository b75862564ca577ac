package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// insideEnv marks the process that runs inside the namespaces.
const insideEnv = "NODELET_PERF_INSIDE"

// nodeIP is the address of the machine inside the namespaces.
const nodeIP = "10.77.0.1"

// outside runs this program again in new namespaces: whatever network-like it leaves goes with its
// last process.
func outside() error {
	// The child must die with the thread that made it, so that an interrupted run leaves nothing.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Unshareflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGTERM,
	}
	err := cmd.Run()
	if e := (*exec.ExitError)(nil); errors.As(err, &e) {
		os.Exit(e.ExitCode()) // it has said why
	}
	return err
}

// inside makes a machine of the namespaces: an uplink with an address and a default route, and mounts
// that are shared within and not with the outside.
func inside() error {
	for _, flags := range []uintptr{unix.MS_REC | unix.MS_PRIVATE, unix.MS_REC | unix.MS_SHARED} {
		if err := unix.Mount("", "/", "", flags, ""); err != nil {
			return fmt.Errorf("change propagation of /: %w", err)
		}
	}
	for _, c := range []string{
		"link set lo up",
		"link add uplink type veth peer name outside",
		"link set uplink up", "link set outside up",
		"addr add " + nodeIP + "/24 dev uplink",
		"route add default via 10.77.0.254 dev uplink",
	} {
		if out, err := exec.Command("ip", strings.Fields(c)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", c, err, out)
		}
	}
	return nil
}
