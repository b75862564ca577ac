package plugin_test

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"nodelet/cni/cnitest"
	"nodelet/cni/plugin"
	"nodelet/internal/nl"
)

func TestHostPort(t *testing.T) {
	lab := cnitest.New(t)
	n := lab.Node("node1", bin, "10.244.1.0/24", "fd00:244:1::/64")
	client := lab.Host("client")
	ports := []plugin.PortMapping{
		{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"},
		{HostPort: 5300, ContainerPort: 53, Protocol: "UDP", HostIP: "0.0.0.0"},
	}
	a, b := n.AddPod("a", ports...), n.AddPod("b")
	a.ServeTCP(80)
	a.ServeUDP(netip.IPv4Unspecified(), 53)

	client.Expect("tcp", cnitest.At(n.IP, 8080), "a", client.IP)
	client.Expect("tcp", cnitest.At(n.IP6, 8080), "a", client.IP6)
	client.Expect("udp", cnitest.At(n.IP, 5300), "a", client.IP)
	client.ExpectNothing("tcp", n.IP, 5300)
	n.Expect("tcp", cnitest.At(n.IP, 8080), "a", n.IP)
	n.Expect("tcp", cnitest.At(n.IP6, 8080), "a", n.IP6)
	b.Expect("tcp", cnitest.At(n.IP, 8080), "a", b.IP)
	// The pod through its own host port: the answer must come back through the host.
	a.Expect("tcp", cnitest.At(n.IP, 8080), "a", n.IP)

	if err := n.Check(a); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	if err := n.Del(a, ports...); err != nil {
		t.Fatal(err)
	}
	client.ExpectNothing("tcp", n.IP, 8080)
	if rules := n.Run("nft", "list", "table", "inet", "nodelet-cni"); strings.Contains(rules, "8080") {
		t.Errorf("left after DEL:\n%s", rules)
	}
}

// TestHostPortOnlyForThisHost: CVE-2025-67499. A packet that merely passes
// through the node to somebody else's port 8080 is left alone.
func TestHostPortOnlyForThisHost(t *testing.T) {
	lab := cnitest.New(t)
	n := lab.Node("node1", bin, "10.244.1.0/24")
	server, client := lab.Host("server"), lab.Host("client")
	a, b := n.AddPod("a", plugin.PortMapping{HostPort: 8080, ContainerPort: 80}), n.AddPod("b")
	a.ServeTCP(80)
	server.ServeTCP(8080)
	server.In(func(c *nl.Conn) error {
		return c.ReplaceRoute(nl.Route{Dst: netip.MustParsePrefix("10.244.1.0/24"), Via: n.IP})
	})
	// From a pod out of the node, and from a machine that uses the node as its router.
	got, err := b.Ask("tcp", server.IP, 8080, netip.Addr{})
	if err != nil || !strings.HasPrefix(got, "server ") {
		t.Errorf("a pod asks another machine's port 8080: %q %v", got, err)
	}
	client.In(func(c *nl.Conn) error {
		return c.ReplaceRoute(nl.Route{Dst: netip.PrefixFrom(server.IP, 32), Via: n.IP})
	})
	got, err = client.Ask("tcp", server.IP, 8080, netip.Addr{})
	if err != nil || got != "server "+client.IP.String() {
		t.Errorf("through the node to another machine's port 8080: %q %v", got, err)
	}
}

func TestHostPortOnOneAddress(t *testing.T) {
	lab := cnitest.New(t)
	n := lab.Node("node1", bin, "10.244.1.0/24")
	client := lab.Host("client")
	second := netip.MustParseAddr("192.0.2.200")
	n.In(func(c *nl.Conn) error {
		l, err := c.Link("eth0")
		if err != nil {
			return err
		}
		return c.AddAddr(nl.Addr{Prefix: netip.PrefixFrom(second, 24), Link: l.Index})
	})
	a := n.AddPod("a", plugin.PortMapping{HostPort: 8080, ContainerPort: 80, HostIP: n.IP.String()})
	b := n.AddPod("b", plugin.PortMapping{HostPort: 8080, ContainerPort: 80, HostIP: second.String()})
	c := n.AddPod("c", plugin.PortMapping{HostPort: 8080, ContainerPort: 80, HostIP: "127.0.0.1"})
	for _, p := range []*cnitest.Pod{a, b, c} {
		p.ServeTCP(80)
	}
	client.Expect("tcp", cnitest.At(n.IP, 8080), "a", client.IP)
	client.Expect("tcp", cnitest.At(second, 8080), "b", client.IP)
	// As the conformance suite asks: to 127.0.0.1 from an address of the node.
	got, err := n.Ask("tcp", netip.MustParseAddr("127.0.0.1"), 8080, n.IP)
	if err != nil || got != "c "+n.IP.String() {
		t.Errorf("127.0.0.1 from %s: %q %v", n.IP, got, err)
	}
	taken := n.Sandbox("d")
	err = n.Add(taken, plugin.PortMapping{HostPort: 8080, ContainerPort: 80})
	if err == nil || !strings.Contains(err.Error(), "host port is taken by pod default/") {
		t.Errorf("a taken port: %v", err)
	}
}

// TestHostPortComesBack: rules that somebody has flushed are there again with
// the next ADD, also without any daemon.
func TestHostPortComesBack(t *testing.T) {
	lab := cnitest.New(t)
	n := lab.Node("node1", bin, "10.244.1.0/24")
	client := lab.Host("client")
	a := n.AddPod("a", plugin.PortMapping{HostPort: 8080, ContainerPort: 80})
	a.ServeTCP(80)
	client.Expect("tcp", cnitest.At(n.IP, 8080), "a", client.IP)
	n.Run("nft", "flush", "ruleset")
	client.ExpectNothing("tcp", n.IP, 8080)
	n.AddPod("b", plugin.PortMapping{HostPort: 8081, ContainerPort: 80})
	client.Expect("tcp", cnitest.At(n.IP, 8080), "a", client.IP)
}

// TestHostPortUDPMoves: a client that never stops sending from one socket
// reaches the pod that has the port now: none at first, then one, then the next.
func TestHostPortUDPMoves(t *testing.T) {
	lab := cnitest.New(t)
	n := lab.Node("node1", bin, "10.244.1.0/24")
	client := lab.Host("client")
	port := plugin.PortMapping{HostPort: 5300, ContainerPort: 53, Protocol: "UDP"}
	var conn net.Conn
	client.Do(func() (err error) {
		conn, err = net.Dial("udp", netip.AddrPortFrom(n.IP, 5300).String())
		return err
	})
	defer conn.Close()
	ask := func() string {
		buf := make([]byte, 100)
		// The first write after a refusal reports the refusal.
		for range 3 {
			_ = conn.SetDeadline(time.Now().Add(time.Second))
			if _, err := conn.Write([]byte("?")); err != nil {
				continue
			}
			if size, err := conn.Read(buf); err == nil {
				return string(buf[:size])
			}
		}
		return "nothing"
	}
	if got := ask(); got != "nothing" {
		t.Fatalf("before any pod: %s", got)
	}
	for _, id := range []string{"a", "b"} {
		p := n.AddPod(id, port)
		p.ServeUDP(netip.IPv4Unspecified(), 53)
		if got, want := ask(), id+" "+client.IP.String(); got != want {
			t.Errorf("with pod %s: got %q, want %q", id, got, want)
		}
		if err := n.Del(p, port); err != nil {
			t.Fatal(err)
		}
	}
}
