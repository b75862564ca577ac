package proxytest

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"nodelet/internal/conntrack"
	"nodelet/internal/model"
	"nodelet/proxy/traffic"
)

const (
	patience = traffic.Patience
	silence  = traffic.Silence
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
			done.Go(func() { traffic.ServeTCP(tcp, h.Name) })
			done.Go(func() { traffic.ServeUDP(udp, h.Name) })
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

// Dial connects from a host.
func (l *Lab) Dial(from *Host, proto model.Protocol, to netip.AddrPort, wait time.Duration) (*traffic.Conn, error) {
	var c *traffic.Conn
	q := traffic.Question{Proto: proto, To: to, Wait: wait, FromPort: l.ports.Next()}
	if from.Name == "r" { // which has addresses of its node as well
		q.From = from.IP(to.Addr().Is6())
	}
	dial := func() (err error) {
		c, err = traffic.Dial(q)
		return err
	}
	err := from.NS.Do(func() error {
		if l.sockets != nil && from.ofNode() {
			return l.sockets(dial)
		}
		return dial()
	})
	return c, err
}

// Ask opens a connection, asks once and closes it.
func (l *Lab) Ask(from *Host, proto model.Protocol, to netip.AddrPort, wait time.Duration) (traffic.Answer, error) {
	c, err := l.Dial(from, proto, to, wait)
	if l.refusedByEPERM && from == l.Node && errors.Is(err, unix.EPERM) {
		return traffic.Answer{Refused: true}, nil
	}
	if err != nil {
		return traffic.AnswerOf(err)
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
