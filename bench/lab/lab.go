// Package lab runs the programs that are compared, in a network namespace of
// their own. It does not measure anything.
//
// Touches: network namespaces, processes that it started, a temporary directory.
package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"nodelet/internal/netns"
)

// mark tells a process that it is already in its namespace.
const mark = "NODELET_BENCH_NAMESPACE"

// Enter runs this program again in a network namespace of its own with loopback
// up, and ends this one with its result; in there it returns.
func Enter() error {
	if os.Getenv(mark) != "" {
		if err := netns.Disinherit(); err != nil {
			return err
		}
		out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput()
		if err != nil {
			return fmt.Errorf("bring loopback up: %w: %s", err, out)
		}
		return nil
	}
	if os.Geteuid() != 0 {
		return errors.New("enter a network namespace: run as root")
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), mark+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	case err != nil:
		return fmt.Errorf("enter a network namespace: %w", err)
	}
	os.Exit(0)
	return nil
}

// Bin is the directory of the programs: ../bin of the bench module, or $NODELET_BIN.
func Bin() (string, error) {
	if dir := os.Getenv("NODELET_BIN"); dir != "" {
		return dir, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the programs: %w", err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "bin", "nodelet")); err == nil {
			return filepath.Join(dir, "bin"), nil
		}
	}
	return "", errors.New("find the programs: no bin/nodelet here or above (run make build, or set NODELET_BIN)")
}

// Process is one program that runs.
type Process struct {
	Name string
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

// Run starts a program; its output goes to a file in dir.
func Run(dir, name string, args ...string) (*Process, error) {
	return RunWith(nil, dir, name, args...)
}

// RunWith is Run with additions to the environment.
func RunWith(env []string, dir, name string, args ...string) (*Process, error) {
	p := &Process{Name: filepath.Base(name), log: filepath.Join(dir, filepath.Base(name)+".log")}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	defer out.Close()
	p.cmd = exec.Command(name, args...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.Name, err)
	}
	p.done = make(chan struct{})
	go func() { _ = p.cmd.Wait(); close(p.done) }()
	return p, nil
}

// Ended tells whether the program has ended by itself.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Log is the end of what the program said.
func (p *Process) Log() string {
	b, _ := os.ReadFile(p.log)
	return string(b[max(0, len(b)-4000):])
}

// PID is the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Stop ends the program.
func (p *Process) Stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// CPU is the processor time that the program has used: all its threads, and the
// programs it ran that have ended (iptables-restore, nft).
func (p *Process) CPU() (time.Duration, error) { return CPU(p.PID()) }

// CPU is the processor time of a process and its ended children.
func CPU(pid int) (time.Duration, error) { return cpu(pid, 4) }

// OwnCPU is that of a process alone.
func OwnCPU(pid int) (time.Duration, error) { return cpu(pid, 2) }

// AllCPU is the processor time of all processes that this one sees and of those that have ended: whose
// parent is gone has a new one, at the latest process 1.
func AllCPU() (sum time.Duration) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			took, _ := CPU(pid) // one that has just ended is in its parent's
			sum += took
		}
	}
	return sum
}

// cpu sums the first fields of four: user, system, and the same of children.
func cpu(pid, fields int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("read processor time: %w", err)
	}
	// The name, in brackets, may hold anything.
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 15 {
		return 0, fmt.Errorf("read processor time of %d: %q", pid, b)
	}
	var sum int
	for _, field := range f[11 : 11+fields] {
		n, err := strconv.Atoi(field)
		if err != nil {
			return 0, fmt.Errorf("read processor time of %d: %w", pid, err)
		}
		sum += n
	}
	return time.Duration(sum) * (time.Second / 100), nil // USER_HZ is 100 everywhere
}

// PSS is the proportional set size of a process in bytes: pages that several share count in parts.
func PSS(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, fmt.Errorf("read memory: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb * 1024, err
		}
	}
	return 0, fmt.Errorf("no Pss in /proc/%d/smaps_rollup", pid)
}

// Memory is the resident anonymous memory in bytes: what is the program's own, without its text.
func (p *Process) Memory() (anon, rss uint64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		return 0, 0, fmt.Errorf("read memory: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		n, _ := strconv.ParseUint(f[1], 10, 64)
		switch f[0] {
		case "RssAnon:":
			anon = n << 10
		case "VmRSS:":
			rss = n << 10
		}
	}
	return anon, rss, nil
}
