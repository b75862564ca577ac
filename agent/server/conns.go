package server

import (
	"net"
	"sync"
)

// boundListener lets a number of connections be open at a time; more wait in the kernel's queue. A
// stream keeps its place until it ends.
type boundListener struct {
	net.Listener
	free chan struct{}
	done chan struct{}
	once sync.Once

	mu   sync.Mutex
	open map[*boundConn]bool
}

func bound(l net.Listener, limit int) *boundListener {
	return &boundListener{Listener: l, free: make(chan struct{}, limit), done: make(chan struct{}), open: map[*boundConn]bool{}}
}

// Accept waits for a place, then for a connection.
func (l *boundListener) Accept() (net.Conn, error) {
	select {
	case l.free <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.free
		return nil, err
	}
	c := &boundConn{Conn: conn}
	c.release = sync.OnceFunc(func() {
		l.mu.Lock()
		delete(l.open, c)
		l.mu.Unlock()
		<-l.free
	})
	l.mu.Lock()
	l.open[c] = true
	l.mu.Unlock()
	return c, nil
}

// Close ends waiting, too.
func (l *boundListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

// closeAll cuts what is still open.
func (l *boundListener) closeAll() {
	l.mu.Lock()
	open := make([]*boundConn, 0, len(l.open))
	for c := range l.open {
		open = append(open, c)
	}
	l.mu.Unlock()
	for _, c := range open {
		_ = c.Close() // the peer may have been first
	}
}

type boundConn struct {
	net.Conn
	release func()
}

// Close gives the place back.
func (c *boundConn) Close() error {
	c.release()
	return c.Conn.Close()
}
