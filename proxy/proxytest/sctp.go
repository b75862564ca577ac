package proxytest

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"nodelet/internal/model"
	"nodelet/proxy/traffic"
)

// RefusesSCTP says that the back end refuses SCTP ports in the place of balancing them.
func RefusesSCTP() Trait { return func(s *subject) { s.refusesSCTP = true } }

// serveSCTP is Serve for SCTP.
func (l *Lab) serveSCTP(h *Host, port uint16) {
	l.t.Helper()
	for _, ip := range []netip.Addr{h.IP4, h.IP6} {
		err := h.NS.Do(func() error {
			listener, err := traffic.ListenSCTP(netip.AddrPortFrom(ip, port))
			if err != nil {
				return err
			}
			var done sync.WaitGroup
			done.Go(func() { traffic.ServeTCP(listener, h.Name) })
			l.t.Cleanup(func() {
				_ = listener.Close()
				done.Wait()
			})
			return nil
		})
		if err != nil {
			l.t.Fatalf("serve on %s: %v", h.Name, err)
		}
	}
}

// sctp: associations are balanced as connections are; or their packets reach
// nobody, while the other ports of the Service are as always.
func sctp(t *testing.T, s subject) {
	if !traffic.HaveSCTP() {
		t.Skip("this kernel has no SCTP sockets")
	}
	b := newBench(t, s, "service d/x NodePort 10.96.0.1,fd96::1 s:80/SCTP[30080] p:80/TCP[30080]\n"+
		"slice d/x-4 of d/x s:8081/SCTP p:8080/TCP 10.244.1.2=ready@n1 10.244.2.2=ready@n2\n"+
		"slice d/x-6 of d/x s:8081/SCTP p:8080/TCP fd44:1::2=ready@n1 fd44:2::2=ready@n2\n")
	b.serveSCTP(b.Host("a"), 8081)
	b.serveSCTP(b.Host("r"), 8081)
	for _, from := range []string{"c", "outside"} {
		for _, to := range []string{"10.96.0.1:80", "[fd96::1]:80", "192.168.7.1:30080", "[fd07::1]:30080"} {
			b.agree(from + " -> " + to + "/TCP")
			if !s.refusesSCTP {
				b.agree(from + " -> " + to + "/SCTP")
				continue
			}
			// An ICMP error does not end an attempt to associate (RFC 9260 section 10).
			got, err := b.Ask(b.Host(from), model.SCTP, netip.MustParseAddrPort(to), time.Second)
			if err != nil || got.Server != "" {
				t.Errorf("%s -> %s/SCTP, which is refused: %s, %v", from, to, got, err)
			}
		}
	}
	if s.refusesSCTP {
		return
	}
	b.change("slice d/x-4 of d/x s:8081/SCTP p:8080/TCP 10.244.2.2=ready@n2")
	b.agree("c -> 10.96.0.1:80/SCTP", "outside -> 192.168.7.1:30080/SCTP")
	b.change("slice d/x-4 of d/x s:8081/SCTP p:8080/TCP")
	for _, from := range []string{"c", "outside"} {
		if got, err := b.Ask(b.Host(from), model.SCTP, mustAddrPort("10.96.0.1:80"), time.Second); err != nil || got.Server != "" {
			t.Errorf("%s -> 10.96.0.1:80/SCTP without endpoints: %s, %v", from, got, err)
		}
	}
}
