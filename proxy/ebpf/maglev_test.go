package ebpf_test

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"nodelet/proxy/lb"
	"nodelet/proxy/traffic"
)

const maglevWorld = `service d/x LoadBalancer 10.96.0.1,fd96::1 p:80/TCP[30080] q:53/UDP[30053] lb=1.2.3.4 algorithm=maglev
slice d/x-4 of d/x p:8080/TCP q:8080/UDP 10.244.1.2=ready@n1 10.244.1.3=ready@n1 10.244.1.4=ready@n1
slice d/x-6 of d/x p:8080/TCP q:8080/UDP fd44:1::2=ready@n1 fd44:1::3=ready@n1 fd44:1::4=ready@n1
`

// from asks from a host by a port of its own choice, and gives who answers.
func (n *labNode) from(host string, port int, network, to string) string {
	n.t.Helper()
	var who string
	err := n.Host(host).NS.Do(func() error {
		d := net.Dialer{Timeout: traffic.Patience, LocalAddr: &net.TCPAddr{Port: port}}
		if network == "udp" {
			d.LocalAddr = &net.UDPAddr{Port: port}
		}
		d.SetMultipathTCP(false)
		c, err := d.Dial(network, to)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		_ = c.SetDeadline(time.Now().Add(traffic.Patience))
		if _, err := c.Write([]byte("?\n")); err != nil {
			return err
		}
		line, err := bufio.NewReader(c).ReadString('\n')
		who, _, _ = strings.Cut(line, " ")
		return err
	})
	if err != nil {
		n.t.Fatalf("%s:%d -> %s: %v", host, port, to, err)
	}
	return who
}

// TestMaglev: a client's connection goes to the same endpoint whichever node
// it comes by, and most stay there when another endpoint leaves.
func TestMaglev(t *testing.T) {
	box := sandbox(t)
	one, two := newNodeIn(t, box, maglevWorld), newNodeIn(t, box, maglevWorld)
	ways := [][2]string{{"tcp", "192.168.7.1:30080"}, {"udp", "192.168.7.1:30053"}, {"tcp", "1.2.3.4:80"}, {"tcp", "[fd07::1]:30080"}, {"udp", "[fd07::1]:30053"}}
	const clients = 12
	// met gives who answered each client by a node; base keeps the ports of one call from those of others.
	met := func(n *labNode, base int) (out []string) {
		for i := range clients {
			w := ways[i%len(ways)]
			out = append(out, n.from("outside", base+i, w[0], w[1]))
		}
		return out
	}
	a, b := met(one, 20000), met(two, 20000)
	if fmt.Sprint(a) != fmt.Sprint(b) {
		t.Errorf("one node sends clients to %v, the other to %v", a, b)
	}
	if all := strings.Join(a, ""); !strings.Contains(all, "a") || !strings.Contains(all, "b") || !strings.Contains(all, "c") {
		t.Errorf("some endpoint is never met: %v", a)
	}
	// A new connection by the same ports, when c has left.
	const without = `slice d/x-4 of d/x p:8080/TCP q:8080/UDP 10.244.1.2=ready@n1 10.244.1.3=ready@n1
slice d/x-6 of d/x p:8080/TCP q:8080/UDP fd44:1::2=ready@n1 fd44:1::3=ready@n1
`
	two.apply(without)
	three := newNodeIn(t, box, maglevWorld)
	three.apply(without)
	moved := 0
	for i, now := range met(three, 20000) {
		if now == "c" {
			t.Error("c has left and answers")
		}
		if a[i] != "c" && now != a[i] {
			moved++
		}
	}
	if moved > clients/3 {
		t.Errorf("%d of %d clients of others than c have moved", moved, clients)
	}
	// With affinity the client alone decides.
	const sticky = `service d/y NodePort 10.96.0.2,fd96::2 p:80/TCP[30081] q:53/UDP[30054] algorithm=maglev affinity=1h
slice d/y-4 of d/y p:8080/TCP q:8080/UDP 10.244.1.2=ready@n1 10.244.1.3=ready@n1 10.244.1.4=ready@n1
`
	one.apply(sticky)
	two.apply(sticky)
	if a, b := one.from("outside", 21000, "tcp", "192.168.7.1:30081"), two.from("outside", 21001, "tcp", "192.168.7.1:30081"); a != b {
		t.Errorf("with affinity one node sends a client to %s, the other to %s", a, b)
	}
}

// TestRandomDiffers: the test above can fail.
func TestRandomDiffers(t *testing.T) {
	box := sandbox(t)
	world := strings.ReplaceAll(maglevWorld, " algorithm=maglev", "")
	one, two := newNodeIn(t, box, world), newNodeIn(t, box, world)
	for i := range 40 {
		if one.from("outside", 20000+i, "udp", "192.168.7.1:30053") != two.from("outside", 20000+i, "udp", "192.168.7.1:30053") {
			return
		}
	}
	t.Error("two nodes agree about 40 clients without Maglev")
}

// TestMaglevByFlag: the flag decides where the annotation says nothing.
func TestMaglevByFlag(t *testing.T) {
	for text, want := range map[string]bool{"": true, " algorithm=random": false, " algorithm=maglev": true, " algorithm=other": true} {
		cfg := *meaning
		cfg.Maglev = true
		s := lb.Compile(&cfg, worldOf("service d/x ClusterIP 10.96.0.1 p:80/TCP"+text).Snapshot())
		for _, target := range s.All() {
			if target.Maglev != want {
				t.Errorf("%q: Maglev %t", text, target.Maglev)
			}
		}
	}
}
