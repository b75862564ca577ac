package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// phase is one run of ginkgo.
type phase struct {
	name   string
	labels string
	procs  int
}

// phases: specs that disturb others run alone, after those.
func phases(procs int) []phase {
	return []phase{
		{"parallel", "!Serial && !Disruptive", procs},
		{"serial", "Serial || Disruptive", 1},
	}
}

// endPatience is what a suite that is told to stop gets for cleaning up.
const endPatience = 30 * time.Second

func runSuite(ctx context.Context, o options, p programs, c *cluster) error {
	for _, ph := range phases(o.procs) {
		if err := ph.run(ctx, o, p, c); err != nil {
			return err
		}
	}
	return nil
}

// run leaves its result in the junit file; that specs failed is no error here.
func (ph phase) run(ctx context.Context, o options, p programs, c *cluster) error {
	args := []string{"run", "--no-color", "--silence-skips", "--timeout=24h", "--procs=" + strconv.Itoa(ph.procs),
		"--label-filter=" + ph.labels, "--focus=" + o.focus}
	if o.skip != "" {
		args = append(args, "--skip="+o.skip)
	}
	args = append(args, p["e2e.test"], "--",
		"--provider=skeleton", "--disable-log-dump", "--kubeconfig="+c.kubeconfig, "--kubectl-path="+p["kubectl"],
		"--num-nodes="+strconv.Itoa(c.nodes), "--report-dir="+o.reports, "--report-prefix="+ph.name+"_")
	path := filepath.Join(o.reports, ph.name+".log")
	log, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("make log: %w", err)
	}
	defer log.Close()
	fmt.Printf("run %s specs, log in %s\n", ph.name, path)
	begin := time.Now()
	cmd := c.command(ctx, p["ginkgo"], args...)
	cmd.Stdout, cmd.Stderr = log, log
	// The suite leaves files there, some for each of its processes.
	temp, err := os.MkdirTemp("", "nodelet-conformance-")
	if err != nil {
		return fmt.Errorf("make directory for the suite: %w", err)
	}
	defer os.RemoveAll(temp)
	cmd.Env = append(cmd.Environ(), "TMPDIR="+temp)
	// The suite's processes are ginkgo's children: they end with its group.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = endPatience
	err = cmd.Run()
	fmt.Printf("%s specs took %s\n", ph.name, time.Since(begin).Round(time.Second))
	var exit *exec.ExitError
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("run suite: %w", err)
	}
	if err != nil && !hasReport(o.reports, ph.name) {
		return fmt.Errorf("run suite: %w: it ended without a report, see %s", err, path)
	}
	return nil
}

func hasReport(dir, name string) bool {
	found, err := filepath.Glob(filepath.Join(dir, "junit_"+name+"_*.xml"))
	return err == nil && len(found) > 0
}
