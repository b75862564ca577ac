package dns

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	// idleConns is how many connections to one resolver are kept for the next
	// question, idleTime how long: a TLS handshake costs two round trips, and
	// servers close after some ten seconds of silence (RFC 7766).
	idleConns = 16
	idleTime  = 8 * time.Second
)

// connPool keeps idle stream connections to one resolver. The zero value is ready for use.
type connPool struct {
	mu     sync.Mutex
	idle   []idleConn // oldest first
	closed bool
}

type idleConn struct {
	conn  net.Conn
	since time.Time
}

// take gives a connection that was used before, nil when there is none.
func (p *connPool) take(now time.Time) net.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.idle) > 0 && now.Sub(p.idle[0].since) > idleTime {
		p.idle[0].conn.Close()
		p.idle = p.idle[1:]
	}
	n := len(p.idle)
	if n == 0 {
		return nil
	}
	c := p.idle[n-1].conn
	p.idle = p.idle[:n-1]
	return c
}

func (p *connPool) put(c net.Conn, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle) >= idleConns {
		c.Close()
		return
	}
	p.idle = append(p.idle, idleConn{c, now})
}

// close ends all that are idle, and all that come back.
func (p *connPool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, c := range p.idle {
		c.conn.Close()
	}
	p.idle = nil
}

// dialStream opens a TCP connection, with TLS where the resolver wants it.
func (u *upstream) dialStream(ctx context.Context) (net.Conn, error) {
	var dialer net.Dialer
	dialer.SetMultipathTCP(false)
	conn, err := dialer.DialContext(ctx, "tcp", u.c.Addr.String())
	if err != nil {
		return nil, fmt.Errorf("reach resolver: %w", err)
	}
	if !u.c.TLS {
		return conn, nil
	}
	name := u.c.ServerName
	if name == "" {
		name = u.c.Addr.Addr().String()
	}
	secure := tls.Client(conn, &tls.Config{ServerName: name, MinVersion: tls.VersionTLS12, RootCAs: u.roots})
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("reach resolver %s: %w", u.c, err)
	}
	return secure, nil
}
