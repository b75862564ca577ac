package dns

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"nodelet/dns/corefile"
	"nodelet/dns/wire"
)

// Health of a resolver: after failLimit questions without answer in a row it is
// asked last for downTime, doubled each time up to maxDown.
const (
	failLimit = 2
	downTime  = time.Second
	maxDown   = 30 * time.Second
)

// upstream is one resolver and what is known about it.
type upstream struct {
	c     corefile.Upstream
	roots *x509.CertPool // nil: the system's
	idle  connPool
	// looping: what is asked there comes back here.
	looping atomic.Bool
	// probing: a health check is under way.
	probing               atomic.Bool
	probes, probeFailures atomic.Uint64
	fails                 atomic.Int64 // in a row
	until                 atomic.Int64 // unix nanoseconds; before that it is asked last

	durations [rcodes]histogram
	failures  atomic.Uint64
}

func newUpstream(c corefile.Upstream) *upstream { return &upstream{c: c} }

// usable reports whether it is to be asked before those that are down. When its
// time is over one question tries it; the others go on avoiding it until that
// one is answered.
func (u *upstream) usable(now time.Time) bool {
	until := u.until.Load()
	switch {
	case u.fails.Load() < failLimit:
		return true
	case now.UnixNano() < until:
		return false
	}
	return u.until.CompareAndSwap(until, now.Add(downTime).UnixNano())
}

func (u *upstream) note(ok bool, now time.Time) {
	if ok {
		u.fails.Store(0)
		u.until.Store(0)
		return
	}
	u.failures.Add(1)
	if n := u.fails.Add(1); n >= failLimit {
		d := min(downTime<<min(n-failLimit, 10), maxDown)
		u.until.Store(now.Add(d).UnixNano())
	}
}

// errMismatch says that a reply belongs to another question, or is forged.
var errMismatch = errors.New("reply does not belong to the question")

// question is what is sent to resolvers: random id, random case of letters
// (0x20), random port by a fresh socket. An answer forged blindly has to guess all.
type question struct {
	id  uint16
	msg []byte
	end int // of the question section
	// stream: UDP is not tried.
	stream bool
}

func newQuestion(q *wire.Query) (*question, error) {
	random := make([]byte, 2+wire.MaxName/8+1)
	if _, err := rand.Read(random); err != nil {
		return nil, fmt.Errorf("make a random query id: %w", err)
	}
	id := binary.BigEndian.Uint16(random)
	flags := wire.FlagRD | q.Flags&wire.FlagCD
	msg := make([]byte, 0, wire.HeaderLen+len(q.Name())+4+wire.OptLen)
	msg = binary.BigEndian.AppendUint16(msg, id)
	msg = binary.BigEndian.AppendUint16(msg, flags)
	msg = append(msg, 0, 1, 0, 0, 0, 0, 0, 1)
	for i, c := range q.Name() {
		// A length byte is below 64, so only letters are in this range.
		if c >= 'a' && c <= 'z' && random[2+i/8]>>(i%8)&1 == 1 {
			c -= 'a' - 'A'
		}
		msg = append(msg, c)
	}
	msg = binary.BigEndian.AppendUint16(msg, uint16(q.Type))
	msg = binary.BigEndian.AppendUint16(msg, wire.ClassIN)
	end := len(msg)
	var do byte
	if q.DO {
		do = 0x80
	}
	msg = append(msg, 0, 0, byte(wire.TypeOPT), wire.MaxUDP>>8, wire.MaxUDP&0xFF, 0, 0, do, 0, 0, 0)
	return &question{id: id, msg: msg, end: end}, nil
}

// plain is the question without EDNS0, for resolvers that do not know it.
func (q *question) plain() *question {
	msg := bytes.Clone(q.msg[:q.end])
	msg[11] = 0
	return &question{id: q.id, msg: msg, end: q.end, stream: q.stream}
}

// check reports whether a packet is the reply to q. folded allows another case
// of letters, which some resolvers give back.
func (q *question) check(reply []byte, folded bool) bool {
	if len(reply) < q.end || binary.BigEndian.Uint16(reply) != q.id || reply[2]&0x80 == 0 || binary.BigEndian.Uint16(reply[4:]) != 1 {
		return false
	}
	got, want := reply[wire.HeaderLen:q.end], q.msg[wire.HeaderLen:q.end]
	return bytes.Equal(got, want) || folded && bytes.EqualFold(got, want)
}

// ask puts the question to one resolver: over UDP, and over TCP when the answer
// was cut or came in another case than the question, which a forger would do too.
func (u *upstream) ask(ctx context.Context, q *question) (*dns.Msg, error) {
	var reply []byte
	var err error
	if !q.stream && !u.c.TLS {
		reply, err = u.askUDP(ctx, q)
	}
	if q.stream || u.c.TLS || errors.Is(err, errMismatch) || err == nil && reply[2]&byte(wire.FlagTC>>8) != 0 {
		reply, err = u.askStream(ctx, q)
	}
	if err != nil {
		return nil, err
	}
	var m dns.Msg
	if err := m.Unpack(reply); err != nil {
		return nil, fmt.Errorf("read reply of %s: %w", u.c, err)
	}
	if (m.Rcode == dns.RcodeFormatError || m.Rcode == dns.RcodeNotImplemented) && m.IsEdns0() == nil && len(q.msg) > q.end {
		return u.ask(ctx, q.plain())
	}
	return &m, nil
}

// resend is after what part of its time a question is sent a second time: a lost
// packet should not cost all of it.
const resend = 3

func (u *upstream) askUDP(ctx context.Context, q *question) ([]byte, error) {
	conn, hangUp, err := u.dialUDP(ctx)
	if err != nil {
		return nil, err
	}
	defer hangUp()
	deadline, _ := ctx.Deadline()
	patience := time.Until(deadline) / resend
	buf := make([]byte, 4096)
	for sent := 0; ; {
		if sent == 0 || sent == 1 && time.Until(deadline) < patience*(resend-1) {
			if _, err := conn.Write(q.msg); err != nil {
				return nil, fmt.Errorf("ask %s: %w", u.c, err)
			}
			sent++
		}
		limit := deadline
		if sent == 1 {
			limit = deadline.Add(-patience * (resend - 1))
		}
		if err := conn.SetReadDeadline(limit); err != nil {
			return nil, fmt.Errorf("limit the wait for %s: %w", u.c, err)
		}
		n, err := conn.Read(buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && sent == 1:
		case ctx.Err() != nil:
			return nil, fmt.Errorf("wait for %s: %w", u.c, ctx.Err())
		case err != nil:
			return nil, fmt.Errorf("wait for %s: %w", u.c, err)
		case q.check(buf[:n], false):
			return buf[:n], nil
		case q.check(buf[:n], true):
			// Somebody who guessed id and port, or a resolver that loses case: TCP tells.
			return nil, errMismatch
		}
		// Anything else is not for us; the real reply may still come.
	}
}

// askStream asks over a connection that is idle, or over a new one: an idle one
// may have been closed at the other end without our knowing.
func (u *upstream) askStream(ctx context.Context, q *question) ([]byte, error) {
	if conn := u.idle.take(time.Now()); conn != nil {
		if reply, err := u.exchange(ctx, conn, q); err == nil || ctx.Err() != nil {
			return reply, err
		}
	}
	conn, err := u.dialStream(ctx)
	if err != nil {
		return nil, err
	}
	return u.exchange(ctx, conn, q)
}

// exchange sends one question over conn, which is kept or closed then.
func (u *upstream) exchange(ctx context.Context, conn net.Conn, q *question) (reply []byte, err error) {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer func() {
		if !stop() || err != nil {
			conn.Close()
			return
		}
		u.idle.put(conn, time.Now())
	}()
	framed := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(q.msg)), uint16(len(q.msg)))
	if _, err := conn.Write(append(framed, q.msg...)); err != nil {
		return nil, fmt.Errorf("ask %s over TCP: %w", u.c, err)
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, fmt.Errorf("wait for %s over TCP: %w", u.c, err)
	}
	reply = make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, reply); err != nil {
		return nil, fmt.Errorf("wait for %s over TCP: %w", u.c, err)
	}
	if !q.check(reply, true) {
		return nil, fmt.Errorf("ask %s over TCP: %w", u.c, errMismatch)
	}
	return reply, nil
}

// dialUDP opens a connected socket with a port of its own, so the kernel drops
// what comes from elsewhere. The end of ctx ends every wait on it.
func (u *upstream) dialUDP(ctx context.Context) (conn net.Conn, hangUp func(), err error) {
	var dialer net.Dialer
	conn, err = dialer.DialContext(ctx, "udp", u.c.Addr.String())
	if err != nil {
		return nil, nil, fmt.Errorf("reach resolver: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	return conn, func() {
		stop()
		conn.Close()
	}, nil
}
