package proxytest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"nodelet/internal/conntrack"
	"nodelet/internal/model"
)

// patience is how long an answer may take on a busy machine; silence is how
// long nothing has to come before it counts as dropped.
const (
	patience = 5 * time.Second
	silence  = 250 * time.Millisecond
)

// Serve answers on a host's port, over TCP and UDP and in both families, each
// line with "name address": its own name and where the line came from. It
// ends with the test or when the function it gives is called.
func (l *Lab) Serve(h *Host, port uint16) (stop func()) {
	l.t.Helper()
	var closers []func() error
	var done sync.WaitGroup
	for _, ip := range []netip.Addr{h.IP4, h.IP6} {
		at := netip.AddrPortFrom(ip, port).String()
		err := h.NS.Do(func() error {
			config := net.ListenConfig{}
			config.SetMultipathTCP(false)
			tcp, err := config.Listen(context.Background(), "tcp", at)
			if err != nil {
				return err
			}
			udp, err := config.ListenPacket(context.Background(), "udp", at)
			if err != nil {
				return errors.Join(err, tcp.Close())
			}
			closers = append(closers, tcp.Close, udp.Close)
			done.Go(func() { serveTCP(tcp, h.Name) })
			done.Go(func() { serveUDP(udp, h.Name) })
			return nil
		})
		if err != nil {
			l.t.Fatalf("serve on %s: %v", h.Name, err)
		}
	}
	var once sync.Once
	stop = func() {
		once.Do(func() {
			for _, c := range closers {
				_ = c()
			}
			done.Wait()
		})
	}
	l.t.Cleanup(stop)
	return stop
}

func serveTCP(listener net.Listener, name string) {
	var open sync.WaitGroup
	var mu sync.Mutex
	conns := map[net.Conn]bool{}
	for {
		c, err := listener.Accept()
		if err != nil {
			break
		}
		mu.Lock()
		conns[c] = true
		mu.Unlock()
		open.Go(func() {
			lines := bufio.NewScanner(c)
			for lines.Scan() {
				fmt.Fprintf(c, "%s %s\n", name, host(c.RemoteAddr()))
			}
			_ = c.Close()
		})
	}
	mu.Lock()
	for c := range conns {
		_ = c.Close()
	}
	mu.Unlock()
	open.Wait()
}

func serveUDP(c net.PacketConn, name string) {
	b := make([]byte, 512)
	for {
		_, from, err := c.ReadFrom(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			_, _ = c.WriteTo([]byte(name+" "+host(from)+"\n"), from)
		}
	}
}

func host(a net.Addr) string {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return a.String()
	}
	return ap.Addr().Unmap().String()
}

// Answer is what came of a question.
type Answer struct {
	// Server is who answered, Saw the source address it saw.
	Server string
	Saw    netip.Addr
	// Refused: somebody said that nobody listens. Silent: nobody said anything.
	Refused, Silent bool
}

// String is one line.
func (a Answer) String() string {
	switch {
	case a.Refused:
		return "refused"
	case a.Silent:
		return "silence"
	}
	return fmt.Sprintf("%s saw %s", a.Server, a.Saw)
}

// Conn is a connection that stays open.
type Conn struct {
	net.Conn
	lines *bufio.Reader
}

// Dial connects from a host.
func (l *Lab) Dial(from *Host, proto model.Protocol, to netip.AddrPort, wait time.Duration) (*Conn, error) {
	var c net.Conn
	dial := func() (err error) {
		d := net.Dialer{Timeout: wait}
		d.SetMultipathTCP(false)
		c, err = d.Dial(strings.ToLower(proto.String()), to.String())
		return err
	}
	err := from.NS.Do(func() error {
		if l.sockets != nil && from.ofNode() {
			return l.sockets(dial)
		}
		return dial()
	})
	if err != nil {
		return nil, err
	}
	return &Conn{c, bufio.NewReader(c)}, nil
}

// Ask sends one line over an open connection and reads the answer.
func (c *Conn) Ask(wait time.Duration) (Answer, error) {
	_ = c.SetDeadline(time.Now().Add(wait))
	// A node whose own packet is not let out hears so at once; whether that was
	// a refusal, the answer tells.
	if _, err := c.Write([]byte("?\n")); err != nil && !errors.Is(err, unix.EPERM) {
		return answerOf(err)
	}
	line, err := c.lines.ReadString('\n')
	if err != nil {
		return answerOf(err)
	}
	name, saw, _ := strings.Cut(strings.TrimSpace(line), " ")
	a, err := netip.ParseAddr(saw)
	return Answer{Server: name, Saw: a}, err
}

func answerOf(err error) (Answer, error) {
	var timeout net.Error
	switch {
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ECONNRESET):
		return Answer{Refused: true}, nil
	case errors.As(err, &timeout) && timeout.Timeout():
		return Answer{Silent: true}, nil
	}
	return Answer{}, err
}

// Ask opens a connection, asks once and closes it.
func (l *Lab) Ask(from *Host, proto model.Protocol, to netip.AddrPort, wait time.Duration) (Answer, error) {
	c, err := l.Dial(from, proto, to, wait)
	if err != nil {
		return answerOf(err)
	}
	defer func() { _ = c.Close() }()
	return c.Ask(wait)
}

func mustAddrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// translated lists the node's tracked flows to a destination that go elsewhere.
func (l *Lab) translated(dst string) (out []conntrack.Flow) {
	l.t.Helper()
	c, err := conntrack.Open(l.Node.NS.Fd())
	if err != nil {
		l.t.Fatal(err)
	}
	defer c.Close()
	flows, err := c.List(context.Background(), false)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, f := range flows {
		if f.Dst == mustAddrPort(dst) && f.AnswersFrom != f.Dst {
			out = append(out, f)
		}
	}
	return out
}
