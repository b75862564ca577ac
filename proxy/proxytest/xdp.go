package proxytest

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"

	"nodelet/internal/nl"
)

// TakesXDP makes the other ends of the node's links to other hosts behave as
// network cards do: they receive what an XDP program sends, and send packets
// with whole checksums.
func (l *Lab) TakesXDP() {
	l.t.Helper()
	for _, name := range []string{"outside", "second"} {
		l.inside(l.Host(name), func(*nl.Conn) error {
			return errors.Join(ethtoolSet("eth0", unix.ETHTOOL_SGRO, 1), ethtoolSet("eth0", unix.ETHTOOL_STXCSUM, 0))
		})
	}
}

// LeavesSums has a host leave the checksums of what it sends to its link, as
// ends of veth pairs do.
func (l *Lab) LeavesSums(name string) {
	l.t.Helper()
	l.inside(l.Host(name), func(*nl.Conn) error { return ethtoolSet("eth0", unix.ETHTOOL_STXCSUM, 1) })
}

// ethtoolSet changes one feature of a link, as `ethtool -K` does.
func ethtoolSet(link string, command, value uint32) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	v := struct{ command, value uint32 }{command, value}
	req := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&v)}
	copy(req.name[:], link)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req))); errno != 0 {
		return errno
	}
	return nil
}
