// Command guest is what runs in a test machine: it carries out the plan.Plan it finds and switches the machine
// off. As process 1 it first makes a system of the bare kernel, or goes to the root file system of the plan.
//
// Touches: everything; it only ever runs in a virtual machine, and refuses to run elsewhere.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"nodelet/test/vm/plan"
)

func main() {
	if line, err := os.ReadFile("/proc/cmdline"); os.Getpid() != 1 && (err != nil || !strings.Contains(string(line), "nodelet.vm")) {
		fmt.Fprintln(os.Stderr, "guest: this is not a test machine")
		os.Exit(1)
	}
	if err := run(); err != nil {
		fmt.Println("guest:", err)
	}
	unix.Sync()
	fmt.Println(plan.Off())
	time.Sleep(200 * time.Millisecond) // the serial line drains after the write returned
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func run() error {
	if os.Getpid() == 1 {
		if err := prepare(); err != nil {
			return err
		}
	}
	text, err := os.ReadFile(plan.Path)
	if err != nil {
		return err
	}
	var p plan.Plan
	if err := json.Unmarshal(text, &p); err != nil {
		return fmt.Errorf("parse %s: %w", plan.Path, err)
	}
	if p.Root != "" && os.Getpid() == 1 {
		return enter(p.Root)
	}
	for _, s := range p.Steps {
		fmt.Println(plan.Begin(s.Name))
		fmt.Println(plan.End(s.Name, step(s)))
	}
	return nil
}

// step runs one program and gives its status.
func step(s plan.Step) int {
	cmd := exec.Command(s.Command[0], s.Command[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.Dir, os.Stdout, os.Stdout
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return exit.ExitCode()
	case err != nil:
		fmt.Println("guest:", err)
		return -1
	}
	return 0
}

type mount struct {
	what, where, kind string
	flags             uintptr
}

// prepare makes a system of a bare kernel.
func prepare() error {
	for _, m := range []mount{
		{"proc", "/proc", "proc", 0},
		{"sysfs", "/sys", "sysfs", 0},
		{"devtmpfs", "/dev", "devtmpfs", 0},
		{"devpts", "/dev/pts", "devpts", 0},
		{"tmpfs", "/dev/shm", "tmpfs", 0},
		{"tmpfs", "/run", "tmpfs", 0},
		{"tmpfs", "/tmp", "tmpfs", 0},
		{"cgroup2", "/sys/fs/cgroup", "cgroup2", 0},
		{"bpf", "/sys/fs/bpf", "bpf", 0},
	} {
		if err := os.MkdirAll(m.where, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.what, m.where, m.kind, m.flags, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.where, err)
		}
	}
	// As systemd does: tests of mount propagation and of network namespaces expect it.
	if err := unix.Mount("", "/", "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("share mounts: %w", err)
	}
	for name, value := range map[string]string{
		"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "TMPDIR": "/tmp",
	} {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	for _, args := range [][]string{{"ip", "link", "set", "lo", "up"}, {"modprobe", "-a", "-q", "virtio_pci", "virtio_blk"}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			fmt.Printf("guest: %v: %v %s\n", args, err, out)
		}
	}
	return unix.Sethostname([]byte("vm"))
}

// enter goes to the root file system on a device and starts its init.
func enter(device string) error {
	var err error
	for range 100 { // the device appears a moment after its driver
		if err = unix.Mount(device, "/root", "ext4", 0, ""); !errors.Is(err, unix.ENOENT) {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if err != nil {
		return fmt.Errorf("mount %s: %w", device, err)
	}
	// The root's init mounts its own.
	for _, m := range []string{"/sys/fs/bpf", "/sys/fs/cgroup", "/tmp", "/dev/shm", "/dev/pts"} {
		if err := unix.Unmount(m, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", m, err)
		}
	}
	// A shared mount cannot be moved.
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	for _, m := range []string{"/dev", "/proc", "/sys", "/run"} {
		if err := unix.Mount(m, "/root"+m, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move %s: %w", m, err)
		}
	}
	if err := os.Chdir("/root"); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return unix.Exec("/sbin/init", []string{"/sbin/init"}, os.Environ())
}
