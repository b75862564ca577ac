// Package fdstore keeps file descriptors open across a restart of the daemon,
// in the service manager's store (systemd.service(5), FileDescriptorStoreMax;
// sd_notify(3), FDSTORE). It does not open or serve anything.
//
// Touches: the environment variables LISTEN_* and NOTIFY_SOCKET, the manager's socket.
//
// Invariants:
//   - A descriptor that was passed is taken once, and closed on exec.
//   - Without a service manager nothing is kept, and nothing fails.
package fdstore
