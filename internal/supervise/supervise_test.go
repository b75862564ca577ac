package supervise

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nodelet/internal/proc"
)

// TestMain lets the test binary be the child: it says that it is ready and
// waits for SIGTERM, or dies at once when told to.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "child" {
		if os.Args[3] == "broken" {
			fmt.Fprintln(os.Stderr, "port 6443 is in use")
			os.Exit(3)
		}
		w := os.NewFile(3, "ready")
		if os.Args[3] == "env" {
			fmt.Fprintf(w, "manager %q %q\n", os.Getenv("NOTIFY_SOCKET"), os.Getenv("WATCHDOG_USEC"))
		}
		fmt.Fprintln(w, "ready")
		_ = w.Close()
		select {}
	}
	os.Exit(m.Run())
}

func newChild(t *testing.T, mode string) (*Child, chan string, chan int) {
	dir := t.TempDir()
	lines, adopted := make(chan string, 10), make(chan int, 10)
	return &Child{
		Path: os.Args[0], Args: []string{"child", dir, mode}, Words: []string{"child", dir},
		PIDFile: filepath.Join(dir, "pid"), LogFile: filepath.Join(dir, "log", "child.log"), // its directory is made
		Log:  slog.New(slog.DiscardHandler),
		Line: func(l string) { lines <- l }, Adopted: func(pid int) { adopted <- pid },
	}, lines, adopted
}

func pidOf(t *testing.T, c *Child) int {
	t.Helper()
	data, err := os.ReadFile(c.PIDFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// start runs the child's supervisor and returns what ends it and waits.
func start(t *testing.T, c *Child) (stop func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	return func() error { cancel(); return <-done }
}

func TestRestartsWhatDies(t *testing.T) {
	c, lines, _ := newChild(t, "ok")
	stop := start(t, c)
	if l := <-lines; l != "ready" {
		t.Fatalf("line %q", l)
	}
	first := pidOf(t, c)
	_ = unix.Kill(first, unix.SIGKILL)
	<-lines
	if second := pidOf(t, c); second == first {
		t.Fatal("the pid file still names the dead child")
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if p, _ := proc.Find(c.PIDFile, c.Words...); p != nil {
		t.Fatalf("pid %d still runs", p.PID)
	}
}

// The API server in the child would tell systemd that the daemon is ready.
func TestTheServiceManagerIsTheDaemons(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/run/systemd/notify")
	t.Setenv("WATCHDOG_USEC", "30000000")
	c, lines, _ := newChild(t, "env")
	stop := start(t, c)
	if l := <-lines; l != `manager "" ""` {
		t.Errorf("the child was given %s", l)
	}
	<-lines
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

func TestAdoptsWhatRuns(t *testing.T) {
	c, lines, adopted := newChild(t, "ok")
	// A supervisor that is killed leaves its child: here it is simply never asked to stop.
	_ = start(t, c)
	<-lines
	pid := pidOf(t, c)
	second := *c
	stop := start(t, &second)
	if got := <-adopted; got != pid {
		t.Fatalf("adopted %d, want %d", got, pid)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if pid == os.Getpid() {
		t.Fatal("nonsense pid")
	}
}

func TestGivesUpWithLastWordsWhenItNeverGotReady(t *testing.T) {
	c, _, _ := newChild(t, "broken")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := c.Run(ctx)
	if err == nil || !strings.Contains(err.Error(), "port 6443 is in use") || !strings.Contains(err.Error(), c.LogFile) {
		t.Fatalf("error %v", err)
	}
}
