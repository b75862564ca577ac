package units

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/godbus/dbus/v5"
	"go.uber.org/goleak"

	"nodelet/internal/bustest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// systemd is one that only notes what it is asked for.
type systemd struct {
	mu    sync.Mutex
	units map[string]map[string]any
	calls []string
}

func (s *systemd) note(format string, args ...any) {
	s.calls = append(s.calls, fmt.Sprintf(format, args...))
}

func (s *systemd) set(unit string, all []property) {
	for _, p := range all {
		s.units[unit][p.Name] = p.Value.Value()
	}
}

// StartTransientUnit makes a unit that is not there.
func (s *systemd) StartTransientUnit(unit, mode string, all []property, _ []aux) (dbus.ObjectPath, *dbus.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note("start %s %s", unit, mode)
	if s.units[unit] != nil {
		return "/", dbus.NewError(exists, []any{"Unit " + unit + " already exists."})
	}
	s.units[unit] = map[string]any{}
	s.set(unit, all)
	return "/job/1", nil
}

// SetUnitProperties refuses what cannot change.
func (s *systemd) SetUnitProperties(unit string, runtime bool, all []property) *dbus.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note("set %s %t", unit, runtime)
	for _, p := range all {
		if p.Name == "DefaultDependencies" {
			return dbus.NewError("org.freedesktop.DBus.Error.PropertyReadOnly", []any{p.Name})
		}
	}
	s.set(unit, all)
	return nil
}

// StopUnit ends a unit that is there.
func (s *systemd) StopUnit(unit, mode string) (dbus.ObjectPath, *dbus.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note("stop %s %s", unit, mode)
	if s.units[unit] == nil {
		return "/", dbus.NewError(unknown, []any{"Unit " + unit + " not loaded."})
	}
	delete(s.units, unit)
	return "/job/2", nil
}

func (s *systemd) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for _, unit := range slices.Sorted(maps.Keys(s.units)) {
		fmt.Fprintf(&b, "%s max=%v weight=%v deps=%v memory=%v tasks=%v\n", unit, s.units[unit]["MemoryMax"], s.units[unit]["CPUWeight"],
			s.units[unit]["DefaultDependencies"], s.units[unit]["MemoryAccounting"], s.units[unit]["TasksAccounting"])
	}
	return b.String() + strings.Join(s.calls, "; ")
}

func start(t *testing.T) *systemd {
	bus := bustest.Private(t)
	s := &systemd{units: map[string]map[string]any{}}
	if err := bus.Export(s, object, service+".Manager"); err != nil {
		t.Fatal(err)
	}
	if _, err := bus.RequestName(service, 0); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSlices: a slice is made, changed where it is there, and ended; each may be repeated.
func TestSlices(t *testing.T) {
	s := start(t)
	m := New()
	defer m.Close()
	for _, max := range []uint64{100, 200} {
		if err := m.Start("a-b.slice", map[string]any{"MemoryMax": max, "CPUWeight": uint64(7)}); err != nil {
			t.Fatal(err)
		}
	}
	want := "a-b.slice max=200 weight=7 deps=false memory=true tasks=true\nstart a-b.slice replace; start a-b.slice replace; set a-b.slice true"
	if got := s.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if err := m.Limit("a-b.slice", map[string]any{"MemoryMax": uint64(300)}); err != nil || !strings.Contains(s.String(), "a-b.slice max=300 ") {
		t.Errorf("limits of a unit that is there: %v\n%s", err, s)
	}
	for range 2 {
		if err := m.Stop("a-b.slice"); err != nil {
			t.Fatal(err)
		}
	}
	if strings.Contains(s.String(), "max=") {
		t.Errorf("left\n%s", s)
	}
}

// TestBusRestarts: a connection that was lost is made anew.
func TestBusRestarts(t *testing.T) {
	s := start(t)
	m := New()
	defer m.Close()
	if err := m.Start("a.slice", nil); err != nil {
		t.Fatal(err)
	}
	bus := <-m.bus
	_ = bus.Close()
	m.bus <- bus
	if err := m.Start("b.slice", nil); err != nil {
		t.Error(err)
	}
	if !strings.Contains(s.String(), "b.slice max=") {
		t.Errorf("not made:\n%s", s)
	}
}

func TestNoBus(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+filepath.Join(t.TempDir(), "none"))
	if err := New().Start("a.slice", nil); err == nil || !strings.Contains(err.Error(), "connect to the system D-Bus") {
		t.Errorf("%v", err)
	}
}
