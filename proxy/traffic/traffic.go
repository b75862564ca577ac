package traffic

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"nodelet/internal/model"
)

// Patience is how long something that must come may take, on machines that
// are emulated and busy; Silence is how long nothing has to come before it
// counts as dropped.
const (
	Patience = 60 * time.Second
	Silence  = 250 * time.Millisecond
)

// ServeTCP answers each line of each connection until the listener is closed.
func ServeTCP(listener net.Listener, name string) {
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
				fmt.Fprintf(c, "%s %s\n", name, addrOf(c.RemoteAddr()))
			}
			_ = c.Close()
			mu.Lock()
			delete(conns, c)
			mu.Unlock()
		})
	}
	mu.Lock()
	for c := range conns {
		_ = c.Close()
	}
	mu.Unlock()
	open.Wait()
}

// ServeUDP answers each packet until the socket is closed.
func ServeUDP(c net.PacketConn, name string) {
	b := make([]byte, 512)
	for {
		_, from, err := c.ReadFrom(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			_, _ = c.WriteTo([]byte(name+" "+addrOf(from)+"\n"), from)
		}
	}
}

func addrOf(a net.Addr) string {
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
	return fmt.Sprintf("%s answers, and saw %s", a.Server, a.Saw)
}

// AnswerOf tells what an error of a socket says; an error that says nothing of
// the other side comes back.
func AnswerOf(err error) (Answer, error) {
	var timeout net.Error
	switch {
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ECONNRESET):
		return Answer{Refused: true}, nil
	case errors.As(err, &timeout) && timeout.Timeout():
		return Answer{Silent: true}, nil
	}
	return Answer{}, err
}

// Conn is a connection that stays open.
type Conn struct {
	net.Conn
	lines *bufio.Reader
}

// Ports gives UDP clients ports in turn. By chance the kernel gives one that a client before had, soon
// enough for connection tracking to treat both as one flow: of 24 and 24 clients in one of 50 cases.
// The zero value is ready for use.
type Ports struct{ last atomic.Uint32 }

// firstPort and ports are above what the kernel chooses for clients, and away from what back ends
// choose for masqueraded flows.
const firstPort, ports = 61000, 4500

// Next is a port that no one had for long.
func (p *Ports) Next() uint16 { return uint16(firstPort + p.last.Add(1)%ports) }

// Question is where a connection goes, and how.
type Question struct {
	Proto model.Protocol
	To    netip.AddrPort
	// From is the source address, FromPort a UDP client's port; zero ones leave the choice to the kernel.
	From     netip.Addr
	FromPort uint16
	// Wait is how long an answer may take.
	Wait time.Duration
}

// Dial connects, from the calling thread's network namespace.
func Dial(q Question) (*Conn, error) {
	if q.Proto == model.SCTP {
		c, err := dialSCTP(q)
		if err != nil {
			return nil, err
		}
		return &Conn{c, bufio.NewReader(c)}, nil
	}
	d := net.Dialer{Timeout: q.Wait}
	d.SetMultipathTCP(false)
	if q.Proto == model.UDP {
		d.LocalAddr = &net.UDPAddr{IP: q.From.AsSlice(), Port: int(q.FromPort)}
	} else if q.From.IsValid() {
		d.LocalAddr = &net.TCPAddr{IP: q.From.AsSlice()}
	}
	c, err := d.Dial(strings.ToLower(q.Proto.String()), q.To.String())
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
		return AnswerOf(err)
	}
	line, err := c.lines.ReadString('\n')
	if err != nil {
		return AnswerOf(err)
	}
	name, saw, _ := strings.Cut(strings.TrimSpace(line), " ")
	a, err := netip.ParseAddr(saw)
	return Answer{Server: name, Saw: a}, err
}
