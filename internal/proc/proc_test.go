package proc

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestFindBelievesOnlyTheRightProcess(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.pid")
	if p, err := Find(file); p != nil || err != nil {
		t.Fatalf("no file: %v %v", p, err)
	}
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	reaped := make(chan struct{})
	go func() { _ = cmd.Wait(); close(reaped) }()
	if err := WritePIDFile(file, cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if p, err := Find(file, "sleep", "2000"); p != nil || err != nil {
		t.Fatalf("found another program: %v %v", p, err)
	}
	p, err := Find(file, "sleep", "1000")
	if p == nil || err != nil {
		t.Fatalf("not found: %v %v", p, err)
	}
	defer p.Close()
	soon, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := p.Wait(soon); err == nil {
		t.Fatal("Wait returned for a process that runs")
	}
	killed, err := p.Stop(t.Context(), 10*time.Second)
	if err != nil || killed {
		t.Fatalf("stop: killed %t, %v", killed, err)
	}
	<-reaped
	if err := p.Signal(unix.SIGTERM); err != nil {
		t.Fatalf("signal to a process that ended: %v", err)
	}
	if q, _ := Find(file, "sleep", "1000"); q != nil {
		t.Fatal("found a process that ended")
	}
}

func TestStopKillsWhoDoesNotListen(t *testing.T) {
	cmd := exec.Command("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1000; done")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL) })
	if _, err := out.Read(make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "x.pid")
	_ = WritePIDFile(file, cmd.Process.Pid)
	go func() { _ = cmd.Wait() }()
	p, err := Find(file, "sh")
	if err != nil || p == nil {
		t.Fatalf("find: %v %v", p, err)
	}
	defer p.Close()
	if killed, err := p.Stop(t.Context(), 50*time.Millisecond); !killed || err != nil {
		t.Fatalf("killed %t, %v", killed, err)
	}
}

func TestLockNamesItsOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "lock")
	release, err := Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(path); err == nil || !strings.Contains(err.Error(), "nodelet down") {
		t.Fatalf("second lock: %v", err)
	}
	release()
	release, err = Lock(path)
	if err != nil {
		t.Fatalf("lock after release: %v", err)
	}
	release()
}

func TestListenersNamesWhoHoldsAPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	addr := l.Addr().(*net.TCPAddr).AddrPort()
	got := Listeners("tcp", addr.Port())
	if len(got) != 1 || got[0].Addr != addr || got[0].PID != os.Getpid() || got[0].Program == "" {
		t.Fatalf("listeners on %s: %v", addr, got)
	}
	if free := Listeners("tcp", 1); len(free) != 0 {
		t.Fatalf("port 1: %v", free)
	}
}
