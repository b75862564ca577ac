package logind

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"nodelet/internal/bustest"
)

// fake is a logind and a systemd on a bus of the test's own.
type fake struct {
	t      *testing.T
	bus    *dbus.Conn
	dropIn string
	locks  chan *os.File // the other ends of the locks that were taken

	mu    sync.Mutex
	delay uint64 // µs
	down  bool
}

// private starts a bus and a logind on it.
func private(t *testing.T) *fake {
	f := &fake{t: t, bus: bustest.Private(t), delay: 5e6, dropIn: filepath.Join(t.TempDir(), "logind.conf.d", "99-nodelet.conf"), locks: make(chan *os.File, 1)}
	for path, iface := range map[dbus.ObjectPath]string{object: manager, "/org/freedesktop/systemd1": "org.freedesktop.systemd1.Manager"} {
		if err := f.bus.Export(f, path, iface); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.bus.Export(properties{f}, object, "org.freedesktop.DBus.Properties"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{service, "org.freedesktop.systemd1"} {
		if _, err := f.bus.RequestName(name, 0); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// Inhibit gives one end of a pipe, as logind does.
func (f *fake) Inhibit(what, who, _, mode string) (dbus.UnixFD, *dbus.Error) {
	if what != "shutdown" || who != "nodelet" || mode != "delay" {
		return 0, dbus.MakeFailedError(fmt.Errorf("asked for %s by %s, %s", what, who, mode))
	}
	r, w, err := os.Pipe()
	if err != nil {
		return 0, dbus.MakeFailedError(err)
	}
	f.locks <- r
	time.AfterFunc(time.Second, func() { _ = w.Close() }) // sent by then; the caller has its own
	return dbus.UnixFD(w.Fd()), nil
}

// KillUnit makes logind read its configuration.
func (f *fake) KillUnit(unit, _ string, signal int32) *dbus.Error {
	text, err := os.ReadFile(f.dropIn)
	if err != nil || unit != "systemd-logind.service" || signal != 1 {
		return dbus.MakeFailedError(fmt.Errorf("%s %d: %w", unit, signal, err))
	}
	m := regexp.MustCompile(`(?m)^\[Login\]\nInhibitDelayMaxSec=(\d+)$`).FindSubmatch(text)
	if m == nil {
		return dbus.MakeFailedError(fmt.Errorf("cannot read %s", text))
	}
	seconds, _ := strconv.ParseUint(string(m[1]), 10, 32)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.delay = seconds * 1e6
	return nil
}

type properties struct{ f *fake }

// Get reads a property.
func (p properties) Get(_, name string) (dbus.Variant, *dbus.Error) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	switch name {
	case "InhibitDelayMaxUSec":
		return dbus.MakeVariant(p.f.delay), nil
	case "PreparingForShutdown":
		return dbus.MakeVariant(p.f.down), nil
	}
	return dbus.Variant{}, dbus.MakeFailedError(fmt.Errorf("no property %s", name))
}

func (f *fake) signal(begins bool) {
	f.t.Helper()
	if err := f.bus.Emit(object, manager+".PrepareForShutdown", begins); err != nil {
		f.t.Fatal(err)
	}
}

// TestSession speaks real D-Bus: descriptors, properties, signals.
func TestSession(t *testing.T) {
	f := private(t)
	s, err := Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.dropIn = f.dropIn
	if d, err := s.Delay(); err != nil || d != 5*time.Second {
		t.Errorf("delay %s, %v", d, err)
	}
	if err := s.Extend(t.Context(), 90500*time.Millisecond); err != nil {
		t.Error(err)
	}
	if d, err := s.Delay(); err != nil || d != 91*time.Second {
		t.Errorf("delay %s, %v", d, err)
	}
	if down, err := s.ShuttingDown(); err != nil || down {
		t.Errorf("shutting down %t, %v", down, err)
	}
	lock, err := s.Lock("a test")
	if err != nil {
		t.Fatal(err)
	}
	other := <-f.locks
	defer other.Close()
	_ = other.SetReadDeadline(time.Now().Add(1500 * time.Millisecond))
	if _, err := other.Read(make([]byte, 1)); err == io.EOF {
		t.Error("the lock is gone before it was released")
	}
	for _, begins := range []bool{true, false} {
		f.signal(begins)
		if got := receive(t, s); got != begins {
			t.Errorf("event %t, want %t", got, begins)
		}
	}
	if err := lock.Close(); err != nil {
		t.Error(err)
	}
	_ = other.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := other.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the lock is still held: %v", err)
	}
}

func receive(t *testing.T, s *Session) bool {
	t.Helper()
	select {
	case got, ok := <-s.Events():
		if !ok {
			t.Fatal("the connection was lost")
		}
		return got
	case <-time.After(20 * time.Second):
		t.Fatal("no event")
		return false
	}
}

// TestBusGoes: whoever listens is told that the connection is lost.
func TestBusGoes(t *testing.T) {
	private(t)
	s, err := Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	select {
	case _, ok := <-s.Events():
		if ok {
			t.Error("an event of a connection that is closed")
		}
	case <-time.After(20 * time.Second):
		t.Error("nobody is told that the connection is lost")
	}
}

func TestNoBus(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+filepath.Join(t.TempDir(), "none"))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := Connect(ctx); err == nil {
		t.Error("connected to nothing")
	}
}
