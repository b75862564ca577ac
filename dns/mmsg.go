package dns

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// batchSize is how many packets one system call reads or writes. More gains
	// nothing measurable and makes the first wait for the last.
	batchSize = 32
	// packetSize is the longest query that is read; what is longer arrives cut
	// and is answered FORMERR. Real queries are below 512.
	packetSize = 1500
	// sockaddrSize is the size of the larger of the two socket addresses.
	sockaddrSize = unix.SizeofSockaddrInet6
)

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// batch reads and writes many packets of one UDP socket at a time, without allocating.
type batch struct {
	raw  syscall.RawConn
	hdrs [batchSize]mmsghdr // for reading
	iovs [batchSize]unix.Iovec
	from [batchSize][sockaddrSize]byte
	in   [batchSize][packetSize]byte

	outHdrs [batchSize]mmsghdr
	outIovs [batchSize]unix.Iovec

	// The calls are made once: a closure per call would be an allocation per batch.
	recv, send func(fd uintptr) bool
	n          int // packets read, or written so far
	todo       int // packets to write
	err        error
}

func newBatch(raw syscall.RawConn) *batch {
	b := &batch{raw: raw}
	for i := range b.hdrs {
		b.iovs[i].Base = &b.in[i][0]
		b.iovs[i].SetLen(packetSize)
		b.hdrs[i].hdr.Iov = &b.iovs[i]
		b.hdrs[i].hdr.SetIovlen(1)
		b.hdrs[i].hdr.Name = &b.from[i][0]
		b.outHdrs[i].hdr.Iov = &b.outIovs[i]
		b.outHdrs[i].hdr.SetIovlen(1)
	}
	b.recv, b.send = b.recvmmsg, b.sendmmsg
	return b
}

// read blocks until there are packets and gives their number.
func (b *batch) read() (int, error) {
	for i := range b.hdrs {
		b.hdrs[i].hdr.Namelen = sockaddrSize
	}
	if err := b.raw.Read(b.recv); err != nil {
		return 0, err
	}
	return b.n, b.err
}

func (b *batch) recvmmsg(fd uintptr) bool {
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&b.hdrs[0])), batchSize, unix.MSG_DONTWAIT, 0, 0)
	if errno == unix.EAGAIN || errno == unix.EINTR {
		return false
	}
	b.n, b.err = int(n), nil
	if errno != 0 {
		b.n, b.err = 0, errno
	}
	return true
}

// packet is the i-th packet read.
func (b *batch) packet(i int) []byte { return b.in[i][:b.hdrs[i].len] }

// sender is who sent the i-th packet.
func (b *batch) sender(i int) netip.AddrPort {
	sa := &b.from[i]
	port := binary.BigEndian.Uint16(sa[2:])
	if binary.NativeEndian.Uint16(sa[:]) == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(sa[4:8])), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(sa[8:24])).Unmap(), port)
}

// queue takes a reply to the sender of the i-th packet; it must stay as it is until flush.
func (b *batch) queue(i int, msg []byte) {
	h := &b.outHdrs[b.todo]
	h.hdr.Name, h.hdr.Namelen = b.hdrs[i].hdr.Name, b.hdrs[i].hdr.Namelen
	b.outIovs[b.todo].Base = &msg[0]
	b.outIovs[b.todo].SetLen(len(msg))
	b.todo++
}

// flush sends the replies. One that cannot be sent is lost, as on any network.
func (b *batch) flush() error {
	b.n = 0
	for b.n < b.todo {
		if err := b.raw.Write(b.send); err != nil {
			b.todo = 0
			return err
		}
		if b.err != nil {
			b.n++ // the first of the rest was refused: go on behind it
		}
	}
	b.todo = 0
	return nil
}

func (b *batch) sendmmsg(fd uintptr) bool {
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&b.outHdrs[b.n])), uintptr(b.todo-b.n), unix.MSG_DONTWAIT, 0, 0)
	if errno == unix.EAGAIN || errno == unix.EINTR {
		return false
	}
	b.err = nil
	if errno != 0 {
		b.err = errno
		return true
	}
	b.n += int(n)
	return true
}

// transient reports errors of reading that belong to an earlier packet, not to the socket.
func transient(err error) bool {
	return errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.EHOSTUNREACH) ||
		errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.ENOBUFS)
}
