// Package nlwatch listens to netlink notifications. It reads messages and
// nothing of what they mean; internal/nl and internal/nft do.
//
// Touches: one netlink socket for each Watch.
package nlwatch

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Source is what to listen to.
type Source struct {
	// Protocol is unix.NETLINK_ROUTE or the like, Groups its multicast groups as bits.
	Protocol int
	Groups   uint32
	// NetNS is a file descriptor of the network namespace; 0 is the caller's own.
	NetNS int
	// Buffer is the size of the receive buffer; 0 is the kernel's default.
	Buffer int
	// Opened is called as soon as nothing can be missed any more; may be nil.
	Opened func()
	// Mute is given, before Opened, what has the kernel leave out the messages that a netlink port has
	// caused (0: none's), until the watch ends: they then wake nobody. May be nil.
	Mute func(set func(port uint32) error)
}

// Open makes a socket of a netlink protocol in a namespace: a socket stays
// where it was made, so only its making needs the thread to change places.
func Open(protocol, netns int) (int, error) {
	open := func() (int, error) {
		return unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	}
	if netns <= 0 {
		return open()
	}
	runtime.LockOSThread()
	own, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return -1, fmt.Errorf("open own network namespace: %w", err)
	}
	defer func() { _ = unix.Close(own) }()
	if err := unix.Setns(netns, unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return -1, fmt.Errorf("enter network namespace: %w", err)
	}
	fd, err := open()
	if back := unix.Setns(own, unix.CLONE_NEWNET); back != nil {
		// The thread is in the wrong namespace: it stays locked, and ends with this goroutine.
		return fd, fmt.Errorf("return to own network namespace: %w", back)
	}
	runtime.UnlockOSThread()
	return fd, err
}

// Watch calls each with the messages of one read, or with nil when some were
// lost because the socket was overrun, until ctx ends.
func Watch(ctx context.Context, s Source, each func(messages []byte)) error {
	fd, err := Open(s.Protocol, s.NetNS)
	if err != nil {
		return err
	}
	if err := prepare(fd, s); err != nil {
		_ = unix.Close(fd)
		return err
	}
	// An os.File on a non-blocking descriptor waits in the runtime's poller, so Close ends a Read.
	f := os.NewFile(uintptr(fd), "netlink")
	stop := context.AfterFunc(ctx, func() { _ = f.Close() })
	defer func() {
		if stop() {
			_ = f.Close()
		}
	}()
	if s.Mute != nil {
		raw, err := f.SyscallConn()
		if err != nil {
			return fmt.Errorf("hold netlink socket: %w", err)
		}
		s.Mute(func(port uint32) error { return mute(raw, port) })
	}
	if s.Opened != nil {
		s.Opened()
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := f.Read(buf)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			each(nil)
		case err != nil:
			return err
		default:
			each(buf[:n])
		}
	}
}

func prepare(fd int, s Source) error {
	if err := unix.SetNonblock(fd, true); err != nil {
		return err
	}
	if s.Buffer > 0 && unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, s.Buffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, s.Buffer)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: s.Groups}); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	return nil
}

// portAt is where a message's header has the port that caused it (struct nlmsghdr, linux/netlink.h).
const portAt = 12

// mute sets the filter of a socket: a classic BPF program, which reads in network order.
func mute(socket syscall.RawConn, port uint32) error {
	var err error
	set := func(fd uintptr) {
		if port == 0 {
			if err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0); errors.Is(err, unix.ENOENT) {
				err = nil // there is none
			}
			return
		}
		var b [4]byte
		binary.NativeEndian.PutUint32(b[:], port)
		filter := []unix.SockFilter{
			{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: portAt},
			{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: binary.BigEndian.Uint32(b[:]), Jf: 1},
			{Code: unix.BPF_RET | unix.BPF_K},
			{Code: unix.BPF_RET | unix.BPF_K, K: math.MaxUint32},
		}
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
	}
	if err := cmp.Or(socket.Control(set), err); err != nil {
		return fmt.Errorf("filter netlink messages: %w", err)
	}
	return nil
}
