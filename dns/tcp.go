package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"nodelet/dns/wire"
)

// tcpServer holds the connections of one listener within their limits.
type tcpServer struct {
	d     *DNS
	stats *stats

	mu      sync.Mutex
	open    map[*tcpConn]struct{}
	clients map[netip.Addr]int
	closing bool
	conns   sync.WaitGroup
}

// tcpConn is one connection. Queries may be sent without waiting for replies,
// and replies come in the order in which they are known (RFC 7766).
type tcpConn struct {
	conn   net.Conn
	client netip.AddrPort
	idle   time.Duration
	slots  chan struct{} // one per query that waits for a late reply

	mu sync.Mutex // one reply at a time
}

// serveTCP accepts connections until the listener is closed, and ends them then.
func (d *DNS) serveTCP(ctx context.Context, l *net.TCPListener) error {
	s := &tcpServer{d: d, stats: d.stats.worker("tcp", l.Addr().(*net.TCPAddr).AddrPort().Addr()), open: map[*tcpConn]struct{}{}, clients: map[netip.Addr]int{}}
	defer s.close()
	for {
		conn, err := l.AcceptTCP()
		switch {
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			// Out of file descriptors or an aborted connection: not the listener's end.
			d.log.Warn("accept dns over tcp", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		default:
			s.start(conn)
		}
	}
}

// start serves a connection, or closes it at once when there are too many.
func (s *tcpServer) start(conn *net.TCPConn) {
	remote := conn.RemoteAddr().(*net.TCPAddr).AddrPort()
	client := netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())
	limits := s.d.c.Limits
	c := &tcpConn{conn: conn, client: client, idle: limits.TCPIdle, slots: make(chan struct{}, limits.TCPPipeline)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing || len(s.open) >= limits.TCPConns || s.clients[client.Addr()] >= limits.TCPClientConns {
		conn.Close()
		return
	}
	s.open[c] = struct{}{}
	s.clients[client.Addr()]++
	s.conns.Add(1)
	go s.serve(c)
}

func (s *tcpServer) serve(c *tcpConn) {
	defer s.conns.Done()
	c.serve(s.d, s.stats)
	c.conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
	if a := c.client.Addr(); s.clients[a] > 1 {
		s.clients[a]--
	} else {
		delete(s.clients, a)
	}
}

func (s *tcpServer) close() {
	s.mu.Lock()
	s.closing = true
	for c := range s.open {
		c.conn.Close()
	}
	s.mu.Unlock()
	s.conns.Wait()
}

// serve reads queries until the client is silent for too long, goes away or breaks the framing.
func (c *tcpConn) serve(d *DNS, counters *stats) {
	r := &request{tcp: true, client: c.client, late: c, stats: counters}
	var size [2]byte
	var packet []byte
	for {
		if c.conn.SetReadDeadline(time.Now().Add(c.idle)) != nil {
			return
		}
		if _, err := io.ReadFull(c.conn, size[:]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint16(size[:]))
		if n > packetSize {
			return // no query is that long
		}
		if packet == nil {
			packet = make([]byte, packetSize)
		}
		if _, err := io.ReadFull(c.conn, packet[:n]); err != nil {
			return
		}
		// A full pipeline stops the reading, and so in the end the client.
		c.slots <- struct{}{}
		r.now = time.Now()
		r.turn++
		r.out = r.out[:0]
		switch msg, v := d.handle(r, packet[:n]); v {
		case done:
			r.out = msg
			c.reply(c.client, msg)
			counters.durations[r.scope].observe(time.Since(r.now), 1)
		case dropped:
			return // no query at all: whoever it is does not speak DNS
		}
	}
}

// reply writes one reply. A client that does not read is not waited for.
func (c *tcpConn) reply(_ netip.AddrPort, msg []byte) {
	<-c.slots
	if msg == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	framed := make([]byte, 2, 2+len(msg))
	binary.BigEndian.PutUint16(framed, uint16(min(len(msg), wire.MaxTCP)))
	if c.conn.SetWriteDeadline(time.Now().Add(c.idle)) != nil {
		return
	}
	if _, err := c.conn.Write(append(framed, msg...)); err != nil {
		c.conn.Close()
	}
}
