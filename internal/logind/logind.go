package logind

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/godbus/dbus/v5"
)

const (
	service = "org.freedesktop.login1"
	object  = dbus.ObjectPath("/org/freedesktop/login1")
	manager = "org.freedesktop.login1.Manager"
	// DropIn is where logind is told to wait longer.
	DropIn = "/etc/systemd/logind.conf.d/99-nodelet.conf"
	// reload is how long logind has to take up a new configuration.
	reload = 5 * time.Second
)

// Session is a connection to logind.
type Session struct {
	bus    *dbus.Conn
	events chan bool
	dropIn string
}

// Connect opens a connection of its own to the system bus and listens for
// shutdowns. The error says what to look at where there is no systemd.
func Connect(ctx context.Context) (*Session, error) {
	bus, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("connect to the system D-Bus: %w (is this machine run by systemd, and is /run/dbus of the host visible here?)", err)
	}
	s := &Session{bus: bus, events: make(chan bool), dropIn: DropIn}
	match := []dbus.MatchOption{dbus.WithMatchInterface(manager), dbus.WithMatchMember("PrepareForShutdown"), dbus.WithMatchObjectPath(object)}
	if err := bus.AddMatchSignalContext(ctx, match...); err != nil {
		_ = bus.Close() // nothing was begun with it
		return nil, fmt.Errorf("listen to logind: %w", err)
	}
	signals := make(chan *dbus.Signal, 8)
	bus.Signal(signals)
	go s.listen(signals)
	return s, nil
}

// listen turns signals into events until the connection is closed.
func (s *Session) listen(signals <-chan *dbus.Signal) {
	defer close(s.events)
	for signal := range signals {
		if signal.Name != manager+".PrepareForShutdown" || len(signal.Body) != 1 {
			continue
		}
		if begins, ok := signal.Body[0].(bool); ok {
			select {
			case s.events <- begins:
			case <-s.bus.Context().Done():
				return
			}
		}
	}
}

// Events tells of each shutdown that begins (true) or is called off (false); closed with the connection.
func (s *Session) Events() <-chan bool { return s.events }

// Close ends the connection; locks stay.
func (s *Session) Close() error { return s.bus.Close() }

// ShuttingDown tells whether a shutdown has begun.
func (s *Session) ShuttingDown() (bool, error) { return property[bool](s, "PreparingForShutdown") }

// Delay is for how long locks can delay a shutdown.
func (s *Session) Delay() (time.Duration, error) {
	us, err := property[uint64](s, "InhibitDelayMaxUSec")
	return time.Duration(us) * time.Microsecond, err
}

func property[T any](s *Session, name string) (v T, err error) {
	got, err := s.bus.Object(service, object).GetProperty(manager + "." + name)
	if err == nil {
		err = got.Store(&v)
	}
	if err != nil {
		return v, fmt.Errorf("read %s of logind: %w", name, err)
	}
	return v, nil
}

// Lock delays shutdowns until it is closed, for at most Delay.
func (s *Session) Lock(why string) (io.Closer, error) {
	var fd dbus.UnixFD
	call := s.bus.Object(service, object).Call(manager+".Inhibit", 0, "shutdown", "nodelet", why, "delay")
	if err := call.Store(&fd); err != nil {
		return nil, fmt.Errorf("take an inhibitor lock of logind: %w", err)
	}
	return os.NewFile(uintptr(fd), "logind inhibitor lock"), nil
}

// Extend makes logind wait for at least d, by a file in logind.conf.d that stays.
func (s *Session) Extend(ctx context.Context, d time.Duration) error {
	text := fmt.Sprintf("# Written by nodelet, for shutdownGracePeriod; `nodelet reset` removes it.\n[Login]\nInhibitDelayMaxSec=%d\n", (d+time.Second-1)/time.Second)
	if err := os.MkdirAll(filepath.Dir(s.dropIn), 0o755); err != nil {
		return fmt.Errorf("make directory of logind's configuration: %w", err)
	}
	if err := os.WriteFile(s.dropIn, []byte(text), 0o644); err != nil {
		return fmt.Errorf("write logind's configuration: %w", err)
	}
	const hangup = int32(1)
	call := s.bus.Object("org.freedesktop.systemd1", "/org/freedesktop/systemd1").
		CallWithContext(ctx, "org.freedesktop.systemd1.Manager.KillUnit", 0, "systemd-logind.service", "all", hangup)
	if call.Err != nil {
		return fmt.Errorf("make logind read its configuration again: %w", call.Err)
	}
	deadline := time.NewTimer(reload)
	defer deadline.Stop()
	tick := time.NewTicker(100 * time.Millisecond) // logind tells nobody when it has read it
	defer tick.Stop()
	for {
		got, err := s.Delay()
		if err != nil || got >= d {
			return err
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return fmt.Errorf("logind delays shutdowns by no more than %s, %s are needed: another file in logind.conf.d may overrule %s", got, d, s.dropIn)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Residue names what Extend left.
func Residue() []string {
	if _, err := os.Stat(DropIn); err != nil {
		return nil
	}
	return []string{DropIn}
}

// Cleanup removes what Extend left. The running logind keeps what it has read.
func Cleanup() error {
	if err := os.Remove(DropIn); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove logind's configuration: %w", err)
	}
	return nil
}
