package traffic

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// HaveSCTP tells whether the kernel has SCTP sockets.
func HaveSCTP() bool {
	fd, err := sctpSocket(netip.IPv4Unspecified())
	if err == nil {
		_ = unix.Close(fd)
	}
	return err == nil
}

// sctpSocket makes a socket whose associations are used as connections of TCP
// are (one-to-one style, RFC 6458 section 4).
func sctpSocket(family netip.Addr) (int, error) {
	domain := unix.AF_INET6
	if family.Is4() {
		domain = unix.AF_INET
	}
	fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_SCTP)
	if err != nil {
		return -1, fmt.Errorf("make an SCTP socket: %w", err)
	}
	return fd, nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// ListenSCTP listens at one address, so that no other one is told to clients.
func ListenSCTP(at netip.AddrPort) (net.Listener, error) {
	fd, err := sctpSocket(at.Addr())
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "sctp")
	defer func() { _ = f.Close() }()
	if err := errors.Join(unix.Bind(fd, sockaddr(at)), unix.Listen(fd, 16)); err != nil {
		return nil, fmt.Errorf("listen at %s over SCTP: %w", at, err)
	}
	return net.FileListener(f)
}

// dialSCTP connects.
func dialSCTP(q Question) (net.Conn, error) {
	fd, err := sctpSocket(q.To.Addr())
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "sctp")
	defer func() { _ = f.Close() }()
	if q.From.IsValid() {
		if err := unix.Bind(fd, sockaddr(netip.AddrPortFrom(q.From, 0))); err != nil {
			return nil, fmt.Errorf("bind to %s: %w", q.From, err)
		}
	}
	err = unix.Connect(fd, sockaddr(q.To))
	if errors.Is(err, unix.EINPROGRESS) {
		err = connected(fd, q.Wait)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to %s over SCTP: %w", q.To, err)
	}
	return net.FileConn(f)
}

// connected waits until a socket is.
func connected(fd int, wait time.Duration) error {
	for end := time.Now().Add(wait); ; {
		left := max(0, int(time.Until(end).Milliseconds()))
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, left)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case n == 0:
			return os.ErrDeadlineExceeded
		}
		code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && code != 0 {
			err = unix.Errno(code)
		}
		return err
	}
}
