package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
)

// listener accepts on several addresses and looks like one net.Listener, which
// is all that upstream takes. Bound before anything else starts, it also lets
// early clients wait in the kernel's queue instead of being refused and backing
// off.
type listener struct {
	each   []net.Listener
	conns  chan net.Conn
	errs   chan error
	closed chan struct{}
	once   sync.Once
}

// listen binds every address, or none.
func listen(ctx context.Context, addrs []netip.Addr, port uint16) (*listener, error) {
	l := &listener{conns: make(chan net.Conn), errs: make(chan error), closed: make(chan struct{})}
	var conf net.ListenConfig
	conf.SetMultipathTCP(false) // nobody uses it, and sockmap programs cannot
	for _, a := range addrs {
		one, err := conf.Listen(ctx, "tcp", netip.AddrPortFrom(a, port).String())
		if err != nil {
			l.closeEach()
			return nil, explainListen(err, a, port)
		}
		l.each = append(l.each, one)
	}
	for _, one := range l.each {
		go l.accept(one)
	}
	return l, nil
}

func (l *listener) accept(one net.Listener) {
	for {
		c, err := one.Accept()
		if err != nil {
			select {
			case l.errs <- err:
				continue
			case <-l.closed:
				return
			}
		}
		select {
		case l.conns <- c:
		case <-l.closed:
			c.Close()
			return
		}
	}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case err := <-l.errs:
		return nil, err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Addr implements net.Listener with the first address.
func (l *listener) Addr() net.Addr { return l.each[0].Addr() }

// Close implements net.Listener.
func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.closeEach()
	})
	return nil
}

func (l *listener) closeEach() {
	for _, one := range l.each {
		one.Close()
	}
}

func explainListen(err error, a netip.Addr, port uint16) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		who := "another process"
		if owner, ok := portOwner(port); ok {
			who = owner
		}
		return fmt.Errorf("listen on %s: port %d is in use by %s: stop it or choose another --secure-port", a, port, who)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("listen on %s: this machine does not have that address: correct --advertise-address or --bind-address", a)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("listen on %s: port %d needs root: choose one above 1023 with --secure-port", a, port)
	}
	return fmt.Errorf("listen on %s: %w", a, err)
}
