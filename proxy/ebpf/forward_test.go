package ebpf_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"nodelet/internal/model"
	"nodelet/proxy/ebpf"
	"nodelet/proxy/lb"
	"nodelet/proxy/traffic"
)

// remoteWorld has its endpoints on the second node, but for one port.
const remoteWorld = `service d/x LoadBalancer 10.96.0.1,fd96::1 p:80/TCP[30080] q:53/UDP[30053] lb=1.2.3.4 extip=5.6.7.8
slice d/x-4 of d/x p:8080/TCP q:8080/UDP 10.244.2.2=ready@n2
slice d/x-6 of d/x p:8080/TCP q:8080/UDP fd44:2::2=ready@n2
service d/h NodePort 10.96.0.2 p:80/TCP[30081]
slice d/h-4 of d/h p:8080/TCP 10.244.1.2=ready@n1
`

// newXDPNode has XDP on both links to other hosts.
func newXDPNode(t *testing.T, world string) *labNode {
	t.Helper()
	if !ebpf.Since(t, 6, 3) {
		t.Skip("before Linux 6.3 nothing is redirected to a veth, as nobody knows whether its other end receives")
	}
	n := newNodeIn(t, sandbox(t), "")
	n.Serve(n.Host("r"), 8080)
	n.TakesXDP()
	n.cfg.XDP = []string{"eth0", "eth1"}
	n.open()
	n.apply(world)
	return n
}

// forwarded gives how many packets XDP has forwarded since the last look.
func (n *labNode) forwarded(last *uint64) uint64 {
	n.t.Helper()
	_, packets, err := n.back.Shortcuts()
	if err != nil {
		n.t.Fatal(err)
	}
	was := *last
	*last = packets
	return packets - was
}

// shortcutsOn waits until all links have the program: the kernel takes one off
// some time after its pin, and it is tried again with each look.
func (n *labNode) shortcutsOn() {
	n.t.Helper()
	for deadline := time.Now().Add(traffic.Patience); ; {
		there := n.back.Untouched(n.t.Context())
		all, _, err := n.back.Shortcuts()
		if there && err == nil && !slices.ContainsFunc(all, func(s lb.Shortcut) bool { return !s.On }) {
			return
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("XDP is not everywhere: %v, %v", all, err)
		}
	}
}

// noXDP waits until no link has an XDP program: the kernel takes one off some
// time after its pin.
func (n *labNode) noXDP(why string) {
	n.t.Helper()
	for deadline := time.Now().Add(traffic.Patience); ; {
		out := n.Command("ip", "link")
		if !strings.Contains(out, "xdp") {
			return
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("%s, and XDP still is there:\n%s", why, out)
		}
	}
}

// TestXDPForwards: of a connection between other hosts all packets but those
// that begin it are forwarded by XDP, in both directions; what ends here is not.
func TestXDPForwards(t *testing.T) {
	n := newXDPNode(t, remoteWorld)
	all, _, err := n.back.Shortcuts()
	if want := []lb.Shortcut{{Link: "eth0", On: true}, {Link: "eth1", On: true}}; err != nil || !slices.Equal(all, want) {
		t.Fatalf("shortcuts %v, %v; want %v", all, err, want)
	}
	var last uint64
	for _, to := range []string{"192.168.7.1:30053", "[fd07::1]:30053"} {
		c := n.dial("outside", model.UDP, to)
		n.asks(c)
		n.forwarded(&last)
		n.asks(c)
		if got := n.forwarded(&last); got != 2 {
			t.Errorf("UDP to %s: of a question and an answer XDP has forwarded %d packets", to, got)
		}
	}
	back := n.dial("second", model.UDP, "192.168.8.1:30053")
	n.asks(back)
	n.forwarded(&last)
	n.asks(back)
	if got := n.forwarded(&last); got != 2 {
		t.Errorf("by the link that they came in by: of a question and an answer XDP has forwarded %d packets", got)
	}
	n.asks(n.dial("outside", model.TCP, "192.168.7.1:30081"))
	n.forwarded(&last)
	n.asks(n.dial("outside", model.TCP, "192.168.7.1:30081"))
	if got := n.forwarded(&last); got != 0 {
		t.Errorf("to a pod of this node: XDP has forwarded %d packets", got)
	}
	// TCP comes last, for acknowledgements and ends of connections come when they like.
	for _, to := range []string{"192.168.7.1:30080", "[fd07::1]:30080", "1.2.3.4:80", "5.6.7.8:80", "10.96.0.1:80", "[fd96::1]:80"} {
		c := n.dial("outside", model.TCP, to)
		n.asks(c) // the ACK, a question, an answer, ACKs
		if got := n.forwarded(&last); got < 3 {
			t.Errorf("TCP to %s: XDP has forwarded %d packets", to, got)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestXDPLongWay: where XDP cannot do it, packets of the same connection take the
// kernel's way, and XDP goes on when it can.
func TestXDPLongWay(t *testing.T) {
	n := newXDPNode(t, remoteWorld)
	var last uint64
	tcp, udp := n.dial("outside", model.TCP, "192.168.7.1:30080"), n.dial("outside", model.UDP, "192.168.7.1:30053")
	both := func(what string, forwarded bool) {
		t.Helper()
		n.forwarded(&last)
		n.asks(tcp)
		n.asks(udp)
		if got := n.forwarded(&last); got > 0 != forwarded {
			t.Errorf("%s: XDP has forwarded %d packets", what, got)
		}
	}
	n.asks(udp)
	both("as it is", true)
	n.Command("ip", "neigh", "flush", "dev", "eth0")
	n.Command("ip", "neigh", "flush", "dev", "eth1")
	both("the neighbours were forgotten", true) // all but the first
	pins, err := filepath.Glob(filepath.Join(ebpf.Layout(n.back), "links", "xdp-*"))
	if err != nil || len(pins) != 2 {
		t.Fatal(pins, err)
	}
	if err := os.Remove(pins[0]); err != nil {
		t.Fatal(err)
	}
	both("the program was taken off one of the links", true) // the other one's packets
	if n.back.Untouched(t.Context()) {
		t.Error("a program that was taken off was not missed")
	}
	n.back.Forget()
	n.apply("")
	n.shortcutsOn()
	both("it is back", true)
	// A daemon without XDP takes all of it away, and the connections go on.
	n.cfg.XDP = nil
	n.open()
	n.apply("")
	n.asks(tcp)
	n.asks(udp)
	n.noXDP("it was switched off")
}

// TestXDPRefused: a link that another program has, and one that is not there,
// are told, and change nothing for Services.
func TestXDPRefused(t *testing.T) {
	n := newNodeIn(t, sandbox(t), "")
	n.Serve(n.Host("r"), 8080)
	n.cfg.XDP = []string{"eth0", "eth9", "lo"}
	n.open()
	n.apply(remoteWorld)
	all, _, err := n.back.Shortcuts()
	if err != nil || len(all) != 3 {
		t.Fatalf("%v, %v", all, err)
	}
	for i, want := range []struct{ link, why string }{{"eth0", "the other end of this veth pair cannot receive"}, {"eth9", "no such link"}, {"lo", "driver has no XDP"}} {
		if all[i].Link != want.link || !strings.Contains(all[i].Why, want.why) || all[i].On != (want.link == "eth0") {
			t.Errorf("%+v, want %s because of: %s", all[i], want.link, want.why)
		}
	}
	n.asks(n.dial("outside", model.TCP, "192.168.7.1:30080"))
	k, err := n.back.ReadBack(t.Context(), lb.Compile(meaning, n.world.Snapshot()), lb.Frontend{Addr: netip.IPv4Unspecified(), Proto: model.TCP, Port: 30080})
	if err != nil || len(k.Differences) > 0 {
		t.Errorf("read back %v, %v", k.Differences, err)
	}
	held := strings.Join(k.Holds, "\n")
	for _, want := range []string{"program xdp at link eth0: nodelet's", "no program xdp at link eth9", "no program xdp at link lo"} {
		if !strings.Contains(held, want) {
			t.Errorf("read back has no %q:\n%s", want, held)
		}
	}
}

// TestXDPPartialSums: a sender that leaves its checksums to its device, as any
// other end of a veth pair does, is served all the same.
func TestXDPPartialSums(t *testing.T) {
	n := newXDPNode(t, remoteWorld)
	for _, host := range []string{"outside", "second"} {
		n.LeavesSums(host)
	}
	var last uint64
	for _, to := range []string{"192.168.7.1:30080", "[fd07::1]:30080"} {
		c := n.dial("outside", model.TCP, to)
		n.asks(c)
		n.asks(c)
	}
	c := n.dial("outside", model.UDP, "192.168.7.1:30053")
	n.asks(c)
	n.forwarded(&last)
	n.asks(c)
	if got := n.forwarded(&last); got != 0 {
		t.Errorf("XDP has forwarded %d packets without a checksum", got)
	}
}

// TestXDPUpgrade: a daemon that takes over replaces the program in its links.
func TestXDPUpgrade(t *testing.T) {
	n := newXDPNode(t, remoteWorld)
	c := n.dial("outside", model.TCP, "192.168.7.1:30080")
	n.asks(c)
	for _, sizes := range []map[string]int{nil, {"flows": 4096}} {
		n.cfg.MapSizes = sizes
		n.open()
		n.apply("")
		var last uint64
		n.forwarded(&last)
		n.asks(c)
		if got := n.forwarded(&last); got == 0 {
			t.Errorf("with sizes %v nothing is forwarded", sizes)
		}
		if !n.back.Untouched(t.Context()) {
			t.Errorf("with sizes %v: touched by nobody", sizes)
		}
	}
	// And draining, XDP is no more: what is tracked takes the kernel's own way.
	if _, err := n.back.Drain(t.Context(), lb.Compile(meaning, n.world.Snapshot())); err != nil {
		t.Fatal(err)
	}
	n.asks(c)
	n.noXDP("draining")
}

// TestXDPCleanup: what reset calls takes the program off all links.
func TestXDPCleanup(t *testing.T) {
	n := newXDPNode(t, remoteWorld)
	if err := n.back.Cleanup(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.noXDP("cleaned up")
	if left, err := n.back.Residue(t.Context()); err != nil || len(left) > 0 {
		t.Errorf("residue %v, %v", left, err)
	}
}

func TestCheckXDP(t *testing.T) {
	for _, ok := range [][]string{nil, {"auto"}, {"eth0", "bond0.7"}} {
		if err := ebpf.CheckXDP(ok); err != nil {
			t.Errorf("%q: %v", ok, err)
		}
	}
	for _, bad := range [][]string{{""}, {"auto", "eth0"}, {"a/b"}, {"a-name-of-16-byte"}, {"eth 0"}} {
		if ebpf.CheckXDP(bad) == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
