package dns

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"nodelet/internal/netns/nstest"
	"nodelet/internal/nl"
	"nodelet/internal/store"
)

// rounds is how often the Service changes: more often than the maps of the
// kernel have spare slots for, so that they are made anew meanwhile, too.
const rounds = 1500

// TestKernelXDPNeverAheadOfRoutes: a Service moves from address to address, the
// proxy takes its time for each, devices come and go; and whenever a pod has an
// answer out of the kernel, what it names is routed. The address tells which
// change it is of, the SOA record of a negative answer its revision.
func TestKernelXDPNeverAheadOfRoutes(t *testing.T) {
	if !nstest.Again(t) {
		return
	}
	n := newNode(t)
	c := kernelConfig()
	c.XDP, c.RoutedBy, c.Limits.RouteWait = true, store.Proxy, time.Hour
	st, w := store.New()
	s := startOn(t, c, st, w)
	stop := make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() { slowProxy(st, stop) })
	defer others.Wait()
	defer close(stop)
	s.sync(clusterIP("default/web", "10.97.0.0"))
	conn := n.podSocket(t)
	eventually(t, "the kernel to answer", func() bool {
		before := s.Stats().Kernel
		exchange(t, conn, packed(t, "web.default.svc.cluster.local", dns.TypeA, 1))
		return s.Stats().Kernel > before
	})

	moves := &moves{at: map[netip.Addr]store.Revision{{}: 0, netip.AddrFrom4([4]byte{10, 97, 0, 0}): 0}, done: make(chan struct{})}
	others.Go(func() { moves.run(w) })
	before, asked := s.Stats().Kernel, uint64(0)
	for ended := false; !ended; {
		select {
		case <-moves.done:
			ended = true // and once more
		default:
		}
		asked++
		for what, qtype := range map[string]uint16{"address": dns.TypeA, "revision": dns.TypeAAAA} {
			reply := exchange(t, conn, packed(t, "web.default.svc.cluster.local", qtype, uint16(asked)))
			routed := st.Snapshot().Applied[store.Proxy]
			if given := moves.revisionOf(t, reply, qtype); given > routed {
				t.Fatalf("question %d: the %s is of revision %d, the kernel routes %d", asked, what, given, routed)
			}
		}
		if asked%500 == 0 {
			n.flipDevice(t, asked%1000 == 0)
		}
	}
	if k := s.Stats().Kernel - before; k < asked {
		t.Errorf("of %d questions the kernel answered %d", 2*asked, k)
	}
	if s.order.early.Load() > 0 {
		t.Errorf("%d zones were used before they were routed", s.order.early.Load())
	}
	t.Logf("%d questions over %d changes, %d answered by the kernel", 2*asked, rounds, s.Stats().Kernel-before)
}

// slowProxy programs each revision late, and skips those that came meanwhile.
func slowProxy(st *store.Store, stop <-chan struct{}) {
	for {
		snap := st.Snapshot()
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(rand.IntN(1500)) * time.Microsecond):
		}
		st.SetApplied(store.Proxy, snap.Revision)
		now := st.Snapshot()
		if now.Revision > snap.Revision {
			continue
		}
		select {
		case <-stop:
			return
		case <-now.Changed():
		}
	}
}

// moves are the addresses of a Service over time.
type moves struct {
	done chan struct{}

	mu sync.Mutex
	at map[netip.Addr]store.Revision
}

func (m *moves) run(w *store.Writers) {
	defer close(m.done)
	for i := 1; i <= rounds; i++ {
		ip := netip.AddrFrom4([4]byte{10, 97, byte(i >> 8), byte(i)})
		svc := clusterIP("default/web", ip.String())
		m.mu.Lock() // whoever sees the address waits for its revision
		m.at[ip] = w.Services.Set(svc.Key, svc)
		m.mu.Unlock()
		time.Sleep(time.Duration(rand.IntN(1500)) * time.Microsecond)
	}
}

// revisionOf is that of the change whose address is in a reply, or of its SOA record.
func (m *moves) revisionOf(t *testing.T, packet []byte, qtype uint16) store.Revision {
	t.Helper()
	var reply dns.Msg
	if err := reply.Unpack(packet); err != nil {
		t.Fatal(err)
	}
	if qtype == dns.TypeAAAA {
		if len(reply.Ns) != 1 {
			t.Fatalf("no SOA record in\n%s", &reply)
		}
		return store.Revision(reply.Ns[0].(*dns.SOA).Serial)
	}
	if len(reply.Answer) != 1 {
		t.Fatalf("no address in\n%s", &reply)
	}
	ip, _ := netip.AddrFromSlice(reply.Answer[0].(*dns.A).A.To4())
	m.mu.Lock()
	defer m.mu.Unlock()
	r, known := m.at[ip]
	if !known {
		t.Fatalf("%s was never the Service's", ip)
	}
	return r
}

// flipDevice adds a device of another pod, or takes it away.
func (n *node) flipDevice(t *testing.T, add bool) {
	t.Helper()
	if add {
		if _, err := n.conn.AddVeth(nl.Veth{Name: "flip0", MTU: 1500, PeerNS: n.pod.Fd(), PeerName: "flip1"}); err != nil {
			t.Fatal(err)
		}
		return
	}
	if l, err := n.conn.Link("flip0"); err == nil {
		if err := n.conn.DeleteLink(l.Index); err != nil {
			t.Fatal(err)
		}
	}
}
