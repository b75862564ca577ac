package ebpf_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nodelet/internal/model"
	"nodelet/proxy/ebpf"
	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
	"nodelet/proxy/proxytest"
	"nodelet/proxy/traffic"
)

var meaning = &lb.Config{NodeName: "n1", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd44::/16")}}

// labNode is the node of a lab whose Services a back end balances.
type labNode struct {
	*proxytest.Lab
	t     *testing.T
	cfg   ebpf.Config
	back  *ebpf.Backend
	world *lbtest.World
}

// newNode programs a world; pods a, b and c serve port 8080.
func newNode(t *testing.T, world string) *labNode {
	t.Helper()
	return newNodeIn(t, sandbox(t), world)
}

func worldOf(text string) *lbtest.World {
	return lbtest.MustParse("node n1 192.168.7.1 192.168.8.1 fd07::1 fd08::1\n" + text)
}

// newNodeIn does so for one of several nodes.
func newNodeIn(t *testing.T, box *ebpf.Sandbox, world string) *labNode {
	t.Helper()
	n := &labNode{Lab: proxytest.NewLab(t), t: t, world: worldOf(world)}
	for _, name := range []string{"a", "b", "c"} {
		n.Serve(n.Host(name), 8080)
	}
	n.Sockets(box.Within)
	n.cfg = box.Config(n.Node.NS.Fd())
	n.open()
	n.apply("")
	t.Cleanup(func() {
		if err := n.back.Cleanup(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return n
}

// open makes a back end without memory, as a daemon that has just started.
func (n *labNode) open() {
	n.t.Helper()
	if n.back != nil {
		if err := n.back.Close(); err != nil {
			n.t.Error(err)
		}
	}
	var err error
	if n.back, err = ebpf.New(n.cfg); err != nil {
		n.t.Fatal(err)
	}
}

func (n *labNode) apply(lines string) {
	n.t.Helper()
	if err := n.world.Apply(lines); err != nil {
		n.t.Fatal(err)
	}
	if _, err := n.back.Apply(n.t.Context(), lb.Compile(meaning, n.world.Snapshot())); err != nil {
		n.t.Fatal(err)
	}
}

func (n *labNode) dial(from string, proto model.Protocol, to string) *traffic.Conn {
	n.t.Helper()
	c, err := n.Dial(n.Host(from), proto, netip.MustParseAddrPort(to), traffic.Patience)
	if err != nil {
		n.t.Fatalf("%s -> %s: %v", from, to, err)
	}
	n.t.Cleanup(func() { _ = c.Close() })
	return c
}

// asks asks once and gives who answered.
func (n *labNode) asks(c *traffic.Conn) string {
	n.t.Helper()
	got, err := c.Ask(traffic.Patience)
	if err != nil || got.Server == "" {
		n.t.Fatalf("%s -> %s: %s %v", c.LocalAddr(), c.RemoteAddr(), got, err)
	}
	return got.Server
}

const nodePortWorld = `service d/x NodePort 10.96.0.1,fd96::1 p:80/TCP[30080] q:53/UDP[30053]
slice d/x-4 of d/x p:8080/TCP q:8080/UDP 10.244.1.2=ready@n1 10.244.1.3=ready@n1 10.244.1.4=ready@n1
slice d/x-6 of d/x p:8080/TCP q:8080/UDP fd44:1::2=ready@n1 fd44:1::3=ready@n1 fd44:1::4=ready@n1
`

// TestCounts: a question and its answer are two packets, also where the answer
// is translated twice; of what sockets do only the connection is counted.
func TestCounts(t *testing.T) {
	n := newNode(t, nodePortWorld)
	counts := func(port uint16, proto model.Protocol) lb.Count {
		t.Helper()
		all, err := n.back.Counts()
		if err != nil {
			t.Fatal(err)
		}
		return all[lb.Frontend{Addr: netip.MustParseAddr("10.96.0.1"), Proto: proto, Port: port}]
	}
	c := n.dial("outside", model.UDP, "192.168.7.1:30053") // masqueraded
	n.asks(c)
	n.asks(c)
	if got := counts(53, model.UDP); got.Connections != 1 || got.Packets != 4 || got.Bytes < 4*28 || got.Bytes > 4*200 {
		t.Errorf("two questions over UDP: %+v", got)
	}
	n.asks(n.dial("a", model.TCP, "10.96.0.1:80"))
	if got := counts(80, model.TCP); got.Connections != 1 {
		t.Errorf("a pod's socket: %+v", got)
	}
	// They outlive the daemon, and go with the Service.
	n.open()
	n.apply("")
	if got := counts(53, model.UDP); got.Packets != 4 {
		t.Errorf("after a restart: %+v", got)
	}
	n.apply("delete service d/x\ndelete slice d/x-4\ndelete slice d/x-6")
	n.apply(nodePortWorld)
	if got := counts(53, model.UDP); got != (lb.Count{}) {
		t.Errorf("of a Service that was made anew: %+v", got)
	}
}

// TestOtherSizes: a daemon with other sizes of maps takes over everything:
// connections, flows, sockets' names, counts.
func TestOtherSizes(t *testing.T) {
	n := newNode(t, nodePortWorld)
	kept := map[*traffic.Conn]string{}
	for from, to := range map[string]string{"outside": "192.168.7.1:30080", "second": "[fd08::1]:30080", "a": "10.96.0.1:80", "node": "192.168.7.1:30080"} {
		c := n.dial(from, model.TCP, to)
		kept[c] = n.asks(c)
	}
	for from, to := range map[string]string{"outside": "192.168.7.1:30053", "a": "[fd96::1]:53", "node": "10.96.0.1:53"} {
		c := n.dial(from, model.UDP, to)
		kept[c] = n.asks(c)
	}
	for _, sizes := range []map[string]int{{"slots": 4096, "flows": 4096}, {"ports": 64}, nil} {
		n.cfg.MapSizes = sizes
		n.open()
		n.apply("")
		for c, server := range kept {
			if got := n.asks(c); got != server {
				t.Errorf("with sizes %v %s -> %s is answered by %s, before by %s", sizes, c.LocalAddr(), c.RemoteAddr(), got, server)
			}
		}
		n.asks(n.dial("outside", model.TCP, "192.168.7.1:30080"))
		left, err := n.back.Residue(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, pin := range left {
			if ebpf.IsAside(pin) {
				t.Errorf("with sizes %v there is still %s", sizes, pin)
			}
		}
	}
	all, err := n.back.Counts()
	if err != nil || all[lb.Frontend{Addr: netip.MustParseAddr("10.96.0.1"), Proto: model.UDP, Port: 53}].Connections == 0 {
		t.Errorf("counts after all: %v, %v", all, err)
	}
}

// TestUntouchedDevices: programs that somebody takes off a link are missed, with
// tcx and with clsact.
func TestUntouchedDevices(t *testing.T) {
	box := sandbox(t)
	for _, noTCX := range []bool{false, true} {
		n := newNodeIn(t, box, nodePortWorld)
		if err := n.back.Cleanup(t.Context()); err != nil {
			t.Fatal(err)
		}
		n.cfg.NoTCX = noTCX
		n.open()
		n.apply("")
		if !n.back.Untouched(t.Context()) {
			t.Errorf("clsact %t: touched by nobody", noTCX)
		}
		if noTCX {
			n.Command("tc", "filter", "del", "dev", "eth0", "ingress")
		} else {
			pins, err := filepath.Glob(filepath.Join(ebpf.Layout(n.back), "links", "egress-*"))
			if err != nil || len(pins) == 0 {
				t.Fatal(pins, err)
			}
			if err := os.Remove(pins[0]); err != nil {
				t.Fatal(err)
			}
		}
		if n.back.Untouched(t.Context()) {
			t.Errorf("clsact %t: a program less was not noticed", noTCX)
		}
		n.back.Forget()
		// The kernel takes a program off some time after its pin; until then it refuses the same one.
		state := lb.Compile(meaning, n.world.Snapshot())
		_, err := n.back.Apply(t.Context(), state)
		for deadline := time.Now().Add(traffic.Patience); errors.Is(err, unix.EEXIST) && time.Now().Before(deadline); {
			_, err = n.back.Apply(t.Context(), state)
		}
		if err != nil {
			t.Fatal(err)
		}
		if !n.back.Untouched(t.Context()) {
			t.Errorf("clsact %t: not mended", noTCX)
		}
		if err := n.back.Cleanup(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
