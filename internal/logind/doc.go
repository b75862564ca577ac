// Package logind is the door to systemd-logind: it delays the machine's
// shutdown and tells when one begins. What to do meanwhile is others' affair.
// Flow: logind -> Session.Events -> agent/shutdown -> Lock.Close -> logind goes on.
//
// Touches: the system D-Bus; /etc/systemd/logind.conf.d/99-nodelet.conf where
// logind would not wait long enough.
//
// Invariants: a lock is a file descriptor, so that it is gone with the process
// however that ends, and a daemon that hangs delays a shutdown by no more than
// logind's InhibitDelayMaxSec. Home of github.com/godbus/dbus, with internal/units.
package logind
