package supervise

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"nodelet/internal/proc"
	"nodelet/internal/reconcile"
)

// stopGrace is how long a child may take to end before it is killed.
const stopGrace = 20 * time.Second

// Child is a program to keep running.
type Child struct {
	// Path and Args of the program; "--ready-fd 3" is appended, and lines the
	// child writes there are passed to Line.
	Path string
	Args []string
	// Words identify a running instance by its command line, see proc.Find.
	Words   []string
	PIDFile string
	// LogFile receives standard output and error, appended.
	LogFile string
	Log     *slog.Logger
	// Line gets each line of progress the child reports; may be nil.
	Line func(string)
	// Adopted is called instead when a running instance was found; may be nil.
	Adopted func(pid int)
}

// Run keeps the child running until ctx ends, and then stops it. A child that
// ends is started again with back-off; one that ends before it ever reported
// "ready" ends Run with an error that carries its last words.
func (c *Child) Run(ctx context.Context) error {
	backoff := reconcile.Backoff{Min: 200 * time.Millisecond, Max: 10 * time.Second}
	everReady := false
	for failures := 1; ; failures++ {
		started := time.Now()
		ready, err := c.once(ctx)
		if ctx.Err() != nil {
			return nil
		}
		everReady = everReady || ready
		if !everReady {
			return err
		}
		if time.Since(started) > time.Minute {
			failures = 1
		}
		wait := backoff.After(failures)
		c.Log.Error("child ended, starting it again", "program", c.Path, "err", err, "in", wait)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// once adopts or starts the child and waits for its end.
func (c *Child) once(ctx context.Context) (ready bool, err error) {
	running, err := proc.Find(c.PIDFile, c.Words...)
	if err != nil {
		return false, err
	}
	if running == nil {
		return c.start(ctx)
	}
	defer running.Close()
	c.Log.Info("adopted running child", "program", c.Path, "pid", running.PID)
	if c.Adopted != nil {
		c.Adopted(running.PID)
	}
	if err := running.Wait(ctx); err == nil {
		return true, errors.New("it ended")
	}
	return true, c.stop(running)
}

// stop ends the process when ctx has ended.
func (c *Child) stop(p *proc.Process) error {
	killed, err := p.Stop(context.Background(), stopGrace)
	if killed {
		c.Log.Warn("child did not stop in time and was killed", "program", c.Path, "pid", p.PID, "after", stopGrace)
	}
	_ = os.Remove(c.PIDFile)
	return err
}

func (c *Child) start(ctx context.Context) (ready bool, err error) {
	if err := os.MkdirAll(filepath.Dir(c.LogFile), 0o755); err != nil {
		return false, fmt.Errorf("make directory for the log of %s: %w", c.Path, err)
	}
	log, err := os.OpenFile(c.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return false, fmt.Errorf("open log of %s: %w", c.Path, err)
	}
	defer func() { _ = log.Close() }()
	from, _ := log.Seek(0, io.SeekEnd)
	lines, child, err := os.Pipe()
	if err != nil {
		return false, fmt.Errorf("make pipe for %s: %w", c.Path, err)
	}
	defer func() { _ = lines.Close() }()
	cmd := exec.Command(c.Path, append(c.Args[:len(c.Args):len(c.Args)], "--ready-fd", "3")...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles, cmd.Env = log, log, []*os.File{child}, environment()
	// A session of its own: signals meant for the daemon's terminal do not reach it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	_ = child.Close()
	if err != nil {
		return false, fmt.Errorf("start %s: %w", c.Path, err)
	}
	if err := proc.WritePIDFile(c.PIDFile, cmd.Process.Pid); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return false, err
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	reported := make(chan bool, 1)
	go func() { reported <- c.read(lines) }()
	select {
	case err = <-exited:
		if err == nil {
			err = errors.New("exit status 0")
		}
		// The write end is closed with the child, so the reader ends too.
		if <-reported {
			return true, fmt.Errorf("%s ended: %w (its log: %s)", c.Path, err, c.LogFile)
		}
		return false, fmt.Errorf("%s ended: %w: %s", c.Path, err, lastWords(c.LogFile, from))
	case <-ctx.Done():
	}
	p, err := proc.Find(c.PIDFile, c.Words...)
	if err != nil || p == nil {
		return true, err
	}
	defer p.Close()
	return true, c.stop(p)
}

// environment is that of the daemon, without what leads to the service manager: upstream's API server would
// tell it that the daemon is ready.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains([]string{"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"}, name)
	})
}

// read passes on the lines of progress and tells whether "ready" was among them.
func (c *Child) read(r io.Reader) (ready bool) {
	s := bufio.NewScanner(r)
	for s.Scan() {
		ready = ready || s.Text() == "ready"
		if c.Line != nil {
			c.Line(s.Text())
		}
	}
	return ready
}

// lastWords gives the last lines that were logged from that offset on.
func lastWords(file string, from int64) string {
	f, err := os.Open(file)
	if err != nil {
		return "no log: " + err.Error()
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return "no log: " + err.Error()
	}
	const most = 4096
	_, _ = f.Seek(max(from, info.Size()-most), io.SeekStart)
	data, _ := io.ReadAll(io.LimitReader(f, most))
	text := strings.TrimSpace(string(data))
	lines := strings.Split(text, "\n")
	if len(lines) > 5 {
		lines = lines[len(lines)-5:]
	}
	return strings.Join(lines, "\n") + "\n(whole log: " + file + ")"
}
