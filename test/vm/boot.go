package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"nodelet/test/vm/plan"
)

// machine is what to boot.
type machine struct {
	name   string // of its log
	kernel kernel
	initrd string
	disk   string // image of /dev/vda, or empty
	memory int    // MB
}

// boot runs a machine to its end and gives what its suites came to. The error
// is about the machine: one that did not come to its last word.
func (r *runner) boot(m machine) ([]result, error) {
	log, err := os.Create(filepath.Join(r.cache, m.name+".log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	ctx, cancel := context.WithTimeout(r.ctx, r.timeout)
	defer cancel()
	args := []string{
		"-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", strconv.Itoa(m.memory),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio",
		"-kernel", m.kernel.image(), "-initrd", m.initrd,
		"-append", "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable no_timer_check nodelet.vm",
	}
	if m.disk != "" {
		args = append(args, "-drive", "file="+m.disk+",format=raw,if=virtio,cache=unsafe")
	}
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", args...)
	cmd.WaitDelay = 5 * time.Second
	cmd.Stderr = os.Stderr
	serial, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the machine: %w (hack/deps.sh vm installs QEMU)", err)
	}
	results, whole := r.listen(io.TeeReader(serial, log), start)
	err = cmd.Wait()
	switch {
	case ctx.Err() == context.DeadlineExceeded:
		err = fmt.Errorf("kernel %s: not done after %s; all it said is in %s", m.kernel.version, r.timeout, log.Name())
	case err == nil && !whole:
		err = fmt.Errorf("kernel %s: it ended before its plan did; all it said is in %s", m.kernel.version, log.Name())
	case err != nil:
		err = fmt.Errorf("run the machine: %w", err)
	}
	return results, err
}

// listen reads the serial line to its end; whole: the guest's last word was there.
func (r *runner) listen(serial io.Reader, start time.Time) (results []result, whole bool) {
	lines := bufio.NewScanner(serial)
	lines.Buffer(nil, 16<<20)
	var now *result
	for lines.Scan() {
		line := strings.TrimRight(lines.Text(), "\r")
		word, ok := plan.Read(line)
		switch {
		case word.Off:
			return results, true
		case word.Begin != "":
			results = append(results, result{suite: word.Begin, status: unfinished})
			now = &results[len(results)-1]
		case word.End != "" && now != nil:
			now.status = word.Status
			fmt.Printf("  %6.1fs %s\n", time.Since(start).Seconds(), now)
			now = nil
		case !ok && now != nil:
			now.line(line)
			if r.verbose || strings.Contains(line, "--- FAIL") {
				fmt.Fprintln(r.out, "    "+line)
			}
		case !ok && r.verbose:
			fmt.Fprintln(r.out, "    "+line)
		}
	}
	return results, false
}
