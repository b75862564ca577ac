package dns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// Holder keeps sockets open while no daemon runs, so that queries wait in their
// queues instead of being refused; internal/fdstore is one.
type Holder interface {
	Take(name string) []*os.File
	Keep(name string, fd uintptr) error
}

// handoverWait bounds how long queries wait in sockets that were handed over for
// the zone of the new daemon: past it SERVFAIL is better than silence.
const handoverWait = 3 * time.Second

// handoverName is what the sockets of one address are kept as. The manager takes
// letters, digits and some punctuation, no colons.
func handoverName(network string, at netip.AddrPort) string {
	return fmt.Sprintf("dns-%s-%x-%d", network, at.Addr().AsSlice(), at.Port())
}

// inherit takes the sockets that a daemon before this one served, nil when there are none.
func (d *DNS) inherit(at netip.AddrPort) *sockets {
	if d.holder == nil {
		return nil
	}
	s := &sockets{inherited: true}
	for _, f := range d.holder.Take(handoverName("udp", at)) {
		if conn, err := net.FilePacketConn(f); err == nil {
			if udp, ok := conn.(*net.UDPConn); ok {
				s.udp = append(s.udp, udp)
			}
		}
		f.Close() // conn has a copy
	}
	for _, f := range d.holder.Take(handoverName("tcp", at)) {
		if l, err := net.FileListener(f); err == nil {
			if tcp, ok := l.(*net.TCPListener); ok && s.tcp == nil {
				s.tcp = tcp
			}
		}
		f.Close()
	}
	if len(s.udp) == 0 || s.tcp == nil {
		s.close()
		return nil
	}
	return s
}

// handOn lets the holder keep the sockets of an address.
func (d *DNS) handOn(at netip.AddrPort, s *sockets) {
	if d.holder == nil || s.inherited {
		return
	}
	keep := func(name string, conn syscall.Conn) {
		raw, err := conn.SyscallConn()
		if err == nil {
			failed := raw.Control(func(fd uintptr) { err = d.holder.Keep(name, fd) })
			if err == nil {
				err = failed
			}
		}
		if err != nil {
			d.log.Warn("hand dns sockets to the service manager: queries during a restart are lost", "err", err)
		}
	}
	for _, c := range s.udp {
		keep(handoverName("udp", at), c)
	}
	keep(handoverName("tcp", at), s.tcp)
}

// awaitZone lets queries wait in inherited sockets until there is a zone to answer from.
func (d *DNS) awaitZone(ctx context.Context) {
	bound := time.NewTimer(handoverWait)
	defer bound.Stop()
	for {
		snap := d.store.Snapshot()
		if d.zone.Load().Synced() {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-bound.C:
			return
		case <-snap.Changed():
		case <-time.After(5 * time.Millisecond): // the zone follows the snapshot a moment later
		}
	}
}
