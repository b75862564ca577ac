package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"nodelet/internal/nlwatch"
)

// attempts bounds how often a transaction or a dump is tried when the kernel
// says that somebody else was at it at the same time.
const attempts = 8

// readBuffer holds the answers of a dump until they are read.
const readBuffer = 4 << 20

// Options say where to connect to.
type Options struct {
	// NetNS is a file descriptor of the network namespace; 0 or less means the caller's own.
	NetNS int
}

// Conn is a connection to nf_tables of one network namespace. Its methods may
// be called by several goroutines; they run one after the other.
type Conn struct {
	mu      sync.Mutex
	fd      int
	port    uint32
	sndbuf  int
	seq     uint32
	receive []byte
}

// Open connects to nf_tables.
func Open(o Options) (*Conn, error) {
	fd, err := nlwatch.Open(unix.NETLINK_NETFILTER, o.NetNS)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket to nf_tables: %w", err)
	}
	c := &Conn{fd: fd, receive: make([]byte, 64<<10)}
	if err := c.prepare(); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("prepare netlink socket to nf_tables: %w", err)
	}
	return c, nil
}

func (c *Conn) prepare() error {
	if err := unix.Bind(c.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	at, err := unix.Getsockname(c.fd)
	if err != nil {
		return err
	}
	if at, ok := at.(*unix.SockaddrNetlink); ok {
		c.port = at.Pid
	}
	// Answers are there when sendmsg returns; the limit is for a broken kernel only.
	if err := unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}); err != nil {
		return err
	}
	// Both are comfort: without them errors are terser and big dumps are retried.
	_ = unix.SetsockoptInt(c.fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	_ = unix.SetsockoptInt(c.fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	if unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, readBuffer) != nil {
		_ = unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, readBuffer)
	}
	return nil
}

// Port is the connection's netlink port, by which Source.Own knows its changes.
func (c *Conn) Port() uint32 { return c.port }

// Close ends the connection.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fd < 0 {
		return nil
	}
	err := unix.Close(c.fd)
	c.fd = -1
	return err
}

// Error is a refusal by the kernel. Errno answers errors.Is.
type Error struct {
	// What was refused, such as "add rule to chain ip nodelet-proxy services".
	What string
	// Hint is the kernel's own message, when it gave one.
	Hint  string
	Errno syscall.Errno
}

// Error is one line: what, why, and what to do when that is known.
func (e *Error) Error() string {
	s := e.What + ": " + e.Errno.Error()
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	if e.Errno == unix.EPERM {
		s += ": the capability NET_ADMIN is needed"
	}
	if e.Errno == unix.EOPNOTSUPP || e.Errno == unix.EPROTONOSUPPORT {
		s += ": the kernel lacks this part of nf_tables"
	}
	return s
}

// Unwrap gives the error number.
func (e *Error) Unwrap() error { return e.Errno }

// IsNotExist tells that the object is not there.
func IsNotExist(err error) bool { return errors.Is(err, unix.ENOENT) }

func temporary(err error) bool {
	for _, e := range []error{unix.EBUSY, unix.EINTR, unix.EAGAIN, unix.ENOBUFS, unix.ERESTART} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Apply makes all changes of the transaction at once, or none. After an error a table that was to
// be made may be there without base chains, where no packet meets it.
func (c *Conn) Apply(ctx context.Context, tx *Tx) error {
	if tx.err != nil || len(tx.ops) == 0 {
		return tx.err
	}
	for _, p := range tx.parts() {
		if err := c.retry(ctx, func() error { return c.exchange(p, tx) }); err != nil {
			return err
		}
	}
	return nil
}

// retry runs f again, with growing pauses, while the kernel says "not now".
func (c *Conn) retry(ctx context.Context, f func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	pause := time.Millisecond
	for try := 1; ; try++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if c.fd < 0 {
			return errors.New("use nf_tables connection: it is closed")
		}
		err := f()
		if err == nil || !temporary(err) {
			return err
		}
		if try == attempts {
			return fmt.Errorf("%w (tried %d times)", err, attempts)
		}
		c.drain()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause *= 2
	}
}

// exchange sends a batch and reads until the answer to its last message. The
// kernel has done all the work when send returns.
func (c *Conn) exchange(p part, tx *Tx) error {
	ops := tx.ops
	if err := c.send(frame(unix.NFNL_MSG_BATCH_BEGIN, 0), p.messages, frame(unix.NFNL_MSG_BATCH_END, p.last+1)); err != nil {
		return fmt.Errorf("send %d changes to nf_tables (the first: %s): %w", len(ops), ops[0], err)
	}
	var first error
	for {
		n, _, err := unix.Recvfrom(c.fd, c.receive, 0)
		if err != nil {
			return fmt.Errorf("read nf_tables' answer to %d changes (the first: %s): %w", len(ops), ops[0], err)
		}
		last := false
		eachMessage(c.receive[:n], func(m reply) {
			if m.typ != unix.NLMSG_ERROR {
				return
			}
			if errno := m.errno(); errno != 0 && first == nil {
				first = &Error{What: tx.refused(m), Errno: errno, Hint: m.hint()}
			}
			// Number 0 is the batch itself: it was refused as a whole.
			last = last || m.seq == 0 || int(m.seq) == p.last
		})
		if last {
			return first
		}
	}
}

// send sends messages as one: one sendmsg holds a whole batch.
func (c *Conn) send(messages ...[]byte) error {
	need := 4096
	for _, b := range messages {
		need += len(b)
	}
	if need > c.sndbuf { // the kernel wants room for all of it
		if err := unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, need); err != nil {
			_ = unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, need)
		}
		c.sndbuf = need
	}
	_, err := unix.SendmsgBuffers(c.fd, messages, nil, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}, 0)
	return err
}

// drain throws away answers of an exchange that was given up.
func (c *Conn) drain() {
	for {
		if _, _, err := unix.Recvfrom(c.fd, c.receive, unix.MSG_DONTWAIT); err != nil && !errors.Is(err, unix.ENOBUFS) {
			return
		}
	}
}

// reply is one message from the kernel.
type reply struct {
	typ, flags uint16
	seq, port  uint32
	body       []byte
}

func eachMessage(b []byte, each func(reply)) {
	for len(b) >= unix.NLMSG_HDRLEN {
		n := int(binary.NativeEndian.Uint32(b))
		if n < unix.NLMSG_HDRLEN || n > len(b) {
			return
		}
		each(reply{
			typ: binary.NativeEndian.Uint16(b[4:]), flags: binary.NativeEndian.Uint16(b[6:]),
			seq: binary.NativeEndian.Uint32(b[8:]), port: binary.NativeEndian.Uint32(b[12:]), body: b[unix.NLMSG_HDRLEN:n],
		})
		b = b[min((n+3)&^3, len(b)):]
	}
}

func (m reply) errno() syscall.Errno {
	if len(m.body) < 4 {
		return unix.EBADMSG
	}
	return syscall.Errno(-int32(binary.NativeEndian.Uint32(m.body)))
}

// hints walks the attributes of an extended acknowledgement. With CAP_ACK the
// original message is cut to its header, which they follow.
func (m reply) hints(each func(typ uint16, v []byte)) {
	const head = 4 + unix.NLMSG_HDRLEN
	if m.flags&unix.NLM_F_ACK_TLVS != 0 && len(m.body) >= head {
		attrs(m.body[head:], each)
	}
}

// hint is the text of an extended acknowledgement.
func (m reply) hint() (text string) {
	m.hints(func(typ uint16, v []byte) {
		if typ == unix.NLMSGERR_ATTR_MSG {
			text = cstr(v)
		}
	})
	return text
}
