package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"nodelet/dns/wire"
	"nodelet/internal/proc"
)

const (
	// bindMin and bindMax are the waits between tries to have the port.
	bindMin = 500 * time.Millisecond
	bindMax = 15 * time.Second
	// receiveBuffer holds a burst of some thousand queries while the worker is not scheduled.
	receiveBuffer = 4 << 20
)

// sockets are all sockets of one address.
type sockets struct {
	udp []*net.UDPConn // one per core
	tcp *net.TCPListener
	// inherited: a daemon before this one opened them, and queries may be waiting in them.
	inherited bool
}

// serve opens the sockets, waiting for those that are taken, and answers until ctx ends.
func (d *DNS) serve(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	opened := make(chan error, len(d.c.ListenAddrs))
	for _, a := range d.c.ListenAddrs {
		g.Go(func() error { return d.serveAddr(ctx, a, opened) })
	}
	g.Go(func() error {
		d.watchOpening(ctx, opened)
		return nil
	})
	return g.Wait()
}

// watchOpening keeps what Ready says: an address reports nil once, or its error.
func (d *DNS) watchOpening(ctx context.Context, opened <-chan error) {
	for missing := len(d.c.ListenAddrs); missing > 0; {
		select {
		case <-ctx.Done():
			return
		case err := <-opened:
			if err == nil {
				missing--
			}
			if err != nil || missing == 0 {
				d.bound.Store(&err)
				d.noteServing()
			}
		}
	}
	d.log.Info("dns listens", "addresses", d.c.ListenAddrs, "port", d.c.Port)
}

func (d *DNS) serveAddr(ctx context.Context, a netip.Addr, opened chan<- error) error {
	at := netip.AddrPortFrom(a, d.c.Port)
	for wait, last := bindMin, ""; ; wait = min(wait*2, bindMax) {
		s, err := d.inherit(at), error(nil)
		if s == nil {
			s, err = listen(ctx, at, runtime.GOMAXPROCS(0))
		}
		if err == nil {
			d.handOn(at, s)
			if s.inherited {
				d.awaitZone(ctx)
			}
			select {
			case opened <- nil:
			case <-ctx.Done():
			}
			return d.serveSockets(ctx, s)
		}
		if err.Error() != last {
			last = err.Error()
			d.log.Error("listen", "address", at, "err", err, "retry", "every "+bindMax.String())
		}
		select {
		case opened <- err:
		default: // the last one has not been read yet
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

func (d *DNS) serveSockets(ctx context.Context, s *sockets) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, conn := range s.udp {
		g.Go(func() error { return d.serveUDP(ctx, conn) })
	}
	g.Go(func() error { return d.serveTCP(ctx, s.tcp) })
	g.Go(func() error {
		<-ctx.Done()
		s.wake()
		return nil
	})
	defer s.close()
	return g.Wait()
}

// wake ends all waits for queries. What has been read by then is still answered:
// closing the sockets at once would lose it.
func (s *sockets) wake() {
	past := time.Unix(1, 0)
	for _, c := range s.udp {
		_ = c.SetReadDeadline(past) // fails only when it is closed
	}
	_ = s.tcp.SetDeadline(past)
}

func (s *sockets) close() {
	for _, c := range s.udp {
		c.Close()
	}
	if s.tcp != nil {
		s.tcp.Close()
	}
}

// listen opens the sockets of one address. SO_REUSEPORT lets one socket per core
// share the port, but would also share it silently with another DNS server of
// the same user: so the port is first asked for alone.
func listen(ctx context.Context, at netip.AddrPort, cores int) (*sockets, error) {
	alone := net.ListenConfig{Control: control(false)}
	probe, err := alone.ListenPacket(ctx, "udp", at.String())
	if err != nil {
		return nil, explainListen("udp", at, err)
	}
	port := uint16(probe.LocalAddr().(*net.UDPAddr).Port)
	at = netip.AddrPortFrom(at.Addr(), port) // port 0 in tests
	probe.Close()

	s := &sockets{}
	alone.SetMultipathTCP(false)
	l, err := alone.Listen(ctx, "tcp", at.String())
	if err != nil {
		return nil, explainListen("tcp", at, err)
	}
	s.tcp = l.(*net.TCPListener)
	shared := net.ListenConfig{Control: control(true)}
	for range max(cores, 1) {
		c, err := shared.ListenPacket(ctx, "udp", at.String())
		if err != nil {
			s.close()
			return nil, explainListen("udp", at, err)
		}
		s.udp = append(s.udp, c.(*net.UDPConn))
	}
	return s, nil
}

// control sets what must be set before bind. FREEBIND makes the order of
// address and socket indifferent.
func control(shared bool) func(network, address string, c syscall.RawConn) error {
	return func(network, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			level, freebind := unix.IPPROTO_IP, unix.IP_FREEBIND
			if strings.HasSuffix(network, "6") {
				level, freebind = unix.IPPROTO_IPV6, unix.IPV6_FREEBIND
			}
			failed = unix.SetsockoptInt(int(fd), level, freebind, 1)
			if shared && failed == nil {
				failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
			}
			if strings.HasPrefix(network, "udp") && unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
				// Without the capability the system's maximum has to do.
				_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
			}
		})
		return errors.Join(err, failed)
	}
}

// explainListen says who has the port, or what is missing.
func explainListen(network string, at netip.AddrPort, err error) error {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("listen on %s %s: taken by %s: stop it or take the address out of its configuration", network, at, portOwner(network, at))
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("listen on %s %s: run as root or with CAP_NET_BIND_SERVICE: %w", network, at, err)
	}
	return fmt.Errorf("listen on %s %s: %w", network, at, err)
}

// portOwner says who has a socket on the address, or on all addresses, for people.
func portOwner(network string, at netip.AddrPort) string {
	for _, l := range proc.Listeners(network, at.Port()) {
		if a := l.Addr.Addr(); a == at.Addr() || a.IsUnspecified() {
			return l.String()
		}
	}
	return "a socket that is not visible from here"
}

// serveUDP is one worker: it reads a batch, answers it and writes the replies.
func (d *DNS) serveUDP(ctx context.Context, conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("serve udp: %w", err)
	}
	b := newBatch(raw)
	r := &request{late: udpReplier{conn}, stats: d.stats.worker("udp", conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr())}
	// Replies lie one behind the other; each may need the room of the largest
	// message while it is made, before it is cut to what UDP takes.
	arena := make([]byte, batchSize*wire.MaxUDP+wire.MaxTCP)
	for {
		n, err := b.read()
		if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) || err != nil && ctx.Err() != nil {
			return nil
		}
		if err != nil && !transient(err) {
			return fmt.Errorf("read dns queries on %s: %w", conn.LocalAddr(), err)
		}
		r.now = time.Now()
		used, answered := 0, [scopes]uint64{}
		for i := range n {
			r.client = b.sender(i)
			r.out = arena[used:used]
			r.turn++
			if msg, v := d.handle(r, b.packet(i)); v == done {
				b.queue(i, msg)
				used += len(msg)
				answered[r.scope]++
			}
		}
		if err := b.flush(); err != nil {
			return nil // closed
		}
		// All of a batch are taken to have lasted as long as the batch: two
		// readings of the clock instead of two for each query.
		took := time.Since(r.now)
		for sc, n := range answered {
			if n > 0 {
				r.stats.durations[sc].observe(took, n)
			}
		}
	}
}

// udpReplier sends late replies from the socket that was asked.
type udpReplier struct{ conn *net.UDPConn }

func (u udpReplier) reply(client netip.AddrPort, msg []byte) {
	if msg == nil {
		return
	}
	// A reply that cannot be sent is lost, as on any network; the client asks again.
	_, _ = u.conn.WriteToUDPAddrPort(msg, client)
}
