package units

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/godbus/dbus/v5"
)

const (
	service = "org.freedesktop.systemd1"
	object  = dbus.ObjectPath("/org/freedesktop/systemd1")
	manager = service + ".Manager."
	// exists and unknown are systemd's names of errors.
	exists  = service + ".UnitExists"
	unknown = service + ".NoSuchUnit"
	// patience is how long systemd has to answer.
	patience = 30 * time.Second
)

// Manager talks to systemd. It connects when it is first used, and again when the bus was restarted.
type Manager struct {
	bus chan *dbus.Conn // holds the connection, nil when there is none
}

// New touches nothing.
func New() *Manager {
	m := &Manager{bus: make(chan *dbus.Conn, 1)}
	m.bus <- nil
	return m
}

// Close ends the connection; slices stay.
func (m *Manager) Close() error {
	bus := <-m.bus
	defer func() { m.bus <- nil }()
	if bus == nil {
		return nil
	}
	return bus.Close()
}

// property and aux are what StartTransientUnit takes.
type property struct {
	Name  string
	Value dbus.Variant
}

type aux struct {
	Name       string
	Properties []property
}

func properties(all map[string]any) (out []property) {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, property{name, dbus.MakeVariant(all[name])})
	}
	return out
}

// Start makes a slice, with those above it; limits are properties by their names, such as MemoryMax. A
// slice that is there gets the limits.
func (m *Manager) Start(slice string, limits map[string]any) error {
	// Accounting makes systemd hand the controllers down. Without the default dependencies a slice is not
	// stopped before what is in it when the machine goes down.
	all := map[string]any{
		"Description": "pods of nodelet: " + slice, "DefaultDependencies": false,
		"MemoryAccounting": true, "CPUAccounting": true, "TasksAccounting": true, "IOAccounting": true,
	}
	maps.Copy(all, limits)
	err := m.call("StartTransientUnit", slice, "replace", properties(all), []aux{})
	if is(err, exists) {
		err = m.call("SetUnitProperties", slice, true, properties(limits))
	}
	if err != nil {
		return fmt.Errorf("make systemd slice %s: %w", slice, err)
	}
	return nil
}

// Limit gives limits to a unit that others made, until the machine's next boot.
func (m *Manager) Limit(unit string, limits map[string]any) error {
	if err := m.call("SetUnitProperties", unit, true, properties(limits)); err != nil {
		return fmt.Errorf("limit systemd unit %s: %w", unit, err)
	}
	return nil
}

// Stop ends a slice; one that is not there has ended.
func (m *Manager) Stop(slice string) error {
	if err := m.call("StopUnit", slice, "replace"); err != nil && !is(err, unknown) {
		return fmt.Errorf("stop systemd slice %s: %w", slice, err)
	}
	return nil
}

func is(err error, name string) bool {
	var e dbus.Error
	return errors.As(err, &e) && e.Name == name
}

// call calls systemd, once more on a new connection where the old one is gone.
func (m *Manager) call(method string, args ...any) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	bus := <-m.bus
	defer func() { m.bus <- bus }()
	for again := bus != nil; ; again = false {
		if bus == nil {
			conn, err := dbus.ConnectSystemBus()
			if err != nil {
				return fmt.Errorf("connect to the system D-Bus: %w (is this machine run by systemd, and is /run/dbus of the host visible here?)", err)
			}
			bus = conn
		}
		err := bus.Object(service, object).CallWithContext(ctx, manager+method, 0, args...).Err
		if err == nil || bus.Connected() && !errors.Is(err, dbus.ErrClosed) {
			return err
		}
		_ = bus.Close() // it is gone already
		if bus = nil; !again {
			return err
		}
	}
}
