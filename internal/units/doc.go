// Package units is the door to systemd's slices: it makes the cgroups of pods where the container runtime
// has systemd make those of containers. What their limits are is decided by internal/cgroup.
// Flow: internal/cgroup Tree.Ensure -> Manager.Start -> systemd -> kernel.
//
// Touches: the system D-Bus, systemd's transient units.
//
// Invariants: Start and Stop may be repeated at any time; units are transient, so that none is left after a
// boot. With internal/logind home of github.com/godbus/dbus.
package units
