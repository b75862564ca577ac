package proxytest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"nodelet/proxy"
	"nodelet/proxy/traffic"
)

// Conformance holds a back end to all that a Service has to do.
func Conformance(t *testing.T, open Open, traits ...Trait) {
	s := subject{open: open}
	for _, trait := range traits {
		trait(&s)
	}
	cases := map[string]func(*testing.T, subject){
		"ClusterIP": clusterIP, "NodePort": nodePort, "Local": localPolicy, "LoadBalancer": loadBalancer,
		"Hairpin": hairpin, "Reject": rejects, "Affinity": affinity, "AffinityTimeout": affinityTimeout,
		"EndpointChange": endpointChange, "ChangesUnderLoad": changesUnderLoad, "EstablishedStays": establishedStays, "StaleUDP": staleUDP,
		"Restart": restart, "ForeignMarks": foreignMarks, "Repair": repair, "Cleanup": cleanup,
		"UDPMatrix": udpMatrix, "HostNetwork": hostNetwork, "Random": random, "DetectLocal": detectLocal, "AffinityOfAPort": affinityOfAPort,
		"SCTP": sctp, "ServiceCIDRs": serviceCIDRs,
	}
	for name, run := range cases {
		t.Run(name, func(t *testing.T) { run(t, s) })
	}
}

// three endpoints here and one on the second node, in both families.
func endpoints(service string, names ...string) string {
	at := map[string][3]string{
		"a": {"10.244.1.2", "fd44:1::2", "n1"}, "b": {"10.244.1.3", "fd44:1::3", "n1"},
		"c": {"10.244.1.4", "fd44:1::4", "n1"}, "r": {"10.244.2.2", "fd44:2::2", "n2"},
	}
	four, six := "", ""
	for _, n := range names {
		name, state, ok := strings.Cut(n, "=")
		if !ok {
			state = "ready"
		}
		four += " " + at[name][0] + "=" + state + "@" + at[name][2]
		six += " " + at[name][1] + "=" + state + "@" + at[name][2]
	}
	const ports = " p:8080/TCP q:8080/UDP"
	return "slice " + service + "-4 of " + service + ports + four + "\nslice " + service + "-6 of " + service + ports + six + "\n"
}

func clusterIP(t *testing.T, s subject) {
	b := newBench(t, s, "service d/x ClusterIP 10.96.0.1,fd96::1 p:80/TCP q:53/UDP\n"+endpoints("d/x", "a", "b", "r"))
	for _, from := range []string{"a", "c", "node", "outside", "second"} {
		b.agree(from+" -> 10.96.0.1:80/TCP", from+" -> 10.96.0.1:53/UDP", from+" -> [fd96::1]:80/TCP", from+" -> [fd96::1]:53/UDP")
	}
}

func nodePort(t *testing.T, s subject) {
	b := newBench(t, s, "service d/x NodePort 10.96.0.1,fd96::1 p:80/TCP[30080] q:53/UDP[30053]\n"+endpoints("d/x", "a", "r"))
	for _, from := range []string{"a", "c", "node", "outside", "second"} {
		for _, ip := range []string{"192.168.7.1", "192.168.8.1", "[fd07::1]", "10.96.0.1"} {
			if ip == "10.96.0.1" {
				b.agree(from + " -> 10.96.0.1:80/TCP")
				continue
			}
			b.agree(from+" -> "+ip+":30080/TCP", from+" -> "+ip+":30053/UDP")
		}
	}
	// Loopback is not served, as in kube-proxy's nftables mode.
	if got, err := b.Ask(b.Node, 6, mustAddrPort("127.0.0.1:30080"), patience); err != nil || !got.Refused {
		t.Errorf("127.0.0.1:30080 answers %s, %v", got, err)
	}
}

func localPolicy(t *testing.T, s subject) {
	b := newBench(t, s, `service d/here NodePort 10.96.0.1,fd96::1 p:80/TCP[30001] q:53/UDP[31001] external=local
service d/away NodePort 10.96.0.2,fd96::2 p:80/TCP[30002] q:53/UDP[31002] external=local
service d/in ClusterIP 10.96.0.3,fd96::3 p:80/TCP internal=local
service d/out ClusterIP 10.96.0.4,fd96::4 p:80/TCP internal=local
`+endpoints("d/here", "a", "b", "r")+endpoints("d/away", "r")+endpoints("d/in", "a", "r")+endpoints("d/out", "r"))
	for _, from := range []string{"c", "node", "outside"} {
		b.agree(from+" -> 192.168.7.1:30001/TCP", from+" -> [fd07::1]:30001/TCP", from+" -> 192.168.7.1:31001/UDP",
			from+" -> 192.168.7.1:30002/TCP", from+" -> [fd07::1]:31002/UDP", from+" -> 10.96.0.1:80/TCP",
			from+" -> 10.96.0.3:80/TCP", from+" -> 10.96.0.4:80/TCP", from+" -> [fd96::4]:80/TCP")
	}
}

func loadBalancer(t *testing.T, s subject) {
	b := newBench(t, s, `service d/x LoadBalancer 10.96.0.1,fd96::1 p:80/TCP[30001] lb=1.2.3.4 lb=fd12::4 extip=5.6.7.8
service d/ranges LoadBalancer 10.96.0.2,fd96::2 p:80/TCP[30002] lb=1.2.3.5 lb=fd12::5 ranges=192.168.7.0/28,10.244.1.2/32,fd07::8/125
service d/local LoadBalancer 10.96.0.3,fd96::3 p:80/TCP[30003] lb=1.2.3.6 external=local
service d/empty LoadBalancer 10.96.0.4,fd96::4 p:80/TCP[30004] lb=1.2.3.7 ranges=192.168.7.0/28
`+endpoints("d/x", "a", "r")+endpoints("d/ranges", "a", "r")+endpoints("d/local", "b", "r"))
	for _, from := range []string{"a", "c", "outside", "second", "node"} {
		b.agree(from+" -> 1.2.3.4:80/TCP", from+" -> 5.6.7.8:80/TCP", from+" -> 1.2.3.5:80/TCP", from+" -> 1.2.3.6:80/TCP",
			from+" -> 1.2.3.7:80/TCP", from+" -> [fd12::4]:80/TCP", from+" -> [fd12::5]:80/TCP")
	}
}

func hairpin(t *testing.T, s subject) {
	b := newBench(t, s, "service d/x NodePort 10.96.0.1,fd96::1 p:80/TCP[30001] q:53/UDP[31001]\n"+endpoints("d/x", "a"))
	b.agree("a -> 10.96.0.1:80/TCP", "a -> 10.96.0.1:53/UDP", "a -> [fd96::1]:80/TCP", "a -> [fd96::1]:53/UDP",
		"a -> 192.168.7.1:30001/TCP", "a -> 192.168.7.1:31001/UDP", "b -> 10.96.0.1:80/TCP")
}

func rejects(t *testing.T, s subject) {
	b := newBench(t, s, `service d/x LoadBalancer 10.96.0.1,fd96::1 p:80/TCP[30001] q:53/UDP[31001] lb=1.2.3.4
service d/y ClusterIP 10.96.0.2,fd96::2 p:80/TCP
`+endpoints("d/y", "a"))
	for _, from := range []string{"a", "node", "outside"} {
		b.agree(from+" -> 10.96.0.1:80/TCP", from+" -> 10.96.0.1:53/UDP", from+" -> 192.168.7.1:30001/TCP", from+" -> 192.168.7.1:31001/UDP",
			from+" -> 1.2.3.4:80/TCP", from+" -> 10.96.0.2:81/TCP", from+" -> 10.96.0.2:80/UDP",
			from+" -> [fd96::1]:80/TCP", from+" -> [fd96::1]:53/UDP", from+" -> [fd96::2]:81/TCP")
	}
	b.change(endpoints("d/x", "a"))
	b.agree("a -> 10.96.0.1:80/TCP", "outside -> 192.168.7.1:31001/UDP")
	b.change("delete slice d/x-4")
	b.agree("a -> 10.96.0.1:80/TCP", "outside -> 192.168.7.1:31001/UDP")
}

// hostNetwork: the endpoint is the node itself, as the API server's is. No
// slice says on which node that is.
func hostNetwork(t *testing.T, s subject) {
	b := newBench(t, s, `service d/api NodePort 10.96.0.1,fd96::1 p:443/TCP[30443] q:53/UDP[30053]
slice d/api-4 of d/api p:6443/TCP q:6443/UDP 192.168.7.1=ready
slice d/api-6 of d/api p:6443/TCP q:6443/UDP fd07::1=ready
`)
	b.Serve(b.Node, 6443)
	for _, from := range []string{"a", "node", "outside", "second"} {
		b.agree(from+" -> 10.96.0.1:443/TCP", from+" -> 10.96.0.1:53/UDP", from+" -> [fd96::1]:443/TCP",
			from+" -> 192.168.7.1:30443/TCP", from+" -> 192.168.8.1:30053/UDP")
	}
}

// random compares worlds that nobody has thought of. The seed of a failure is
// in its output; a run of one seed is the same each time, but for the kernel's choices.
func random(t *testing.T, s subject) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	b := newBench(t, s, "")
	for range 12 {
		var lines strings.Builder
		for i := range 3 {
			fmt.Fprintf(&lines, "service d/s%d %s 10.96.0.%d,fd96::%d p:80/TCP[3000%d] q:53/UDP[3100%d] lb=1.2.3.%d extip=5.6.7.%d", i, pick("ClusterIP", "NodePort", "LoadBalancer"), i, i, i, i, i, i)
			for _, o := range []string{"internal=local", "external=local", "affinity=1h", "ranges=192.168.7.0/28,10.244.1.2/31"} {
				if r.IntN(3) == 0 {
					lines.WriteString(" " + o)
				}
			}
			var eps []string
			for _, e := range []string{"a", "b", "c", "r"} {
				if r.IntN(2) == 0 {
					eps = append(eps, e+"="+pick("ready", "ready", "serving", "terminating", "not-ready"))
				}
			}
			lines.WriteString("\n" + endpoints(fmt.Sprintf("d/s%d", i), eps...))
		}
		b.change(lines.String())
		var probes []string
		for range 8 {
			i := r.IntN(3)
			dst := pick("10.96.0.%d:80/TCP", "10.96.0.%d:53/UDP", "[fd96::%d]:80/TCP", "192.168.7.1:3000%d/TCP", "192.168.8.1:3100%d/UDP",
				"[fd07::1]:3000%d/TCP", "1.2.3.%d:80/TCP", "5.6.7.%d:80/TCP", "10.96.0.%d:81/TCP")
			probes = append(probes, pick("a", "c", "node", "outside")+" -> "+fmt.Sprintf(dst, i))
		}
		b.agree(probes...)
		if t.Failed() {
			t.Fatalf("in this world:\n%s", lines.String())
		}
	}
}

func affinity(t *testing.T, s subject) {
	b := newBench(t, s, "service d/x NodePort 10.96.0.1,fd96::1 p:80/TCP[30001] q:53/UDP affinity=3h\n"+endpoints("d/x", "a", "b", "c", "r"))
	for _, dst := range []string{"10.96.0.1:80/TCP", "10.96.0.1:53/UDP", "[fd96::1]:80/TCP", "192.168.7.1:30001/TCP"} {
		for _, from := range []string{"a", "outside", "node"} {
			b.change(endpoints("d/x", "a", "b", "c", "r"))
			first := b.who(from, dst)
			for range 12 {
				if got := b.who(from, dst); got != first {
					t.Fatalf("%s -> %s: %s after %s", from, dst, got, first)
				}
			}
			// Somebody else leaves: nothing changes. The endpoint leaves: another is kept.
			others := map[string][]string{"a": {"b", "c", "r"}, "b": {"a", "c", "r"}, "c": {"a", "b", "r"}, "r": {"a", "b", "c"}}[first]
			b.change(endpoints("d/x", first, others[0], others[1]))
			if got := b.who(from, dst); got != first {
				t.Fatalf("%s -> %s: %s after %s, which had not left", from, dst, got, first)
			}
			b.change(endpoints("d/x", others...))
			second := b.who(from, dst)
			b.change(endpoints("d/x", "a", "b", "c", "r"))
			for range 12 {
				if got := b.who(from, dst); got != second || got == first {
					t.Fatalf("%s -> %s: %s after %s had left and %s was chosen", from, dst, got, first, second)
				}
			}
		}
	}
}

func affinityTimeout(t *testing.T, s subject) {
	b := newBench(t, s, "service d/x ClusterIP 10.96.0.1 p:80/TCP affinity=1s\n"+endpoints("d/x", "a", "b", "c", "r"))
	met := map[string]bool{}
	deadline := time.Now().Add(patience)
	for len(met) < 2 {
		if time.Now().After(deadline) {
			t.Fatalf("always %v", met)
		}
		met[b.who("a", "10.96.0.1:80/TCP")] = true
		time.Sleep(1200 * time.Millisecond) // the affinity's own time has to pass
	}
	// Each connection begins the time anew.
	begun := time.Now()
	last := b.who("a", "10.96.0.1:80/TCP")
	for range 8 {
		time.Sleep(300 * time.Millisecond)
		again := time.Now()
		got := b.who("a", "10.96.0.1:80/TCP")
		// On a machine so busy that the time ran out, anything may be met.
		if got != last && time.Since(begun) < 900*time.Millisecond {
			t.Fatalf("%s after %s within the timeout", got, last)
		}
		begun, last = again, got
	}
}

func endpointChange(t *testing.T, s subject) {
	b := newBench(t, s, "service d/x NodePort 10.96.0.1,fd96::1 p:80/TCP[30001] q:53/UDP[31001]\n")
	all := []string{"a -> 10.96.0.1:80/TCP", "c -> 10.96.0.1:53/UDP", "outside -> 192.168.7.1:30001/TCP", "a -> [fd96::1]:53/UDP"}
	for _, eps := range [][]string{
		{"a"}, {"a", "b"}, {"a", "b", "r"}, {"b", "r"}, {"r"}, {"c"}, {"a=serving", "b"}, {"a=serving"}, {"a=terminating", "b=serving"}, {"a", "b", "c", "r"}, {},
	} {
		b.change(endpoints("d/x", eps...))
		b.agree(all...)
	}
}

// changesUnderLoad: endpoints come and go, but never all of them; each connection
// that begins meanwhile gets one.
func changesUnderLoad(t *testing.T, s subject) {
	b := newBench(t, s, "service d/x NodePort 10.96.0.1,fd96::1 p:80/TCP[30001]\n"+endpoints("d/x", "a"))
	over := make(chan struct{})
	var clients sync.WaitGroup
	for _, c := range [][2]string{{"c", "10.96.0.1:80/TCP"}, {"node", "[fd96::1]:80/TCP"}, {"outside", "192.168.7.1:30001/TCP"}} {
		from := b.Host(c[0])
		to, proto, _ := parse(t, c[1])
		clients.Go(func() {
			for n := 1; ; n++ {
				select {
				case <-over:
					return
				default:
				}
				conn, err := b.Dial(from, proto, to, patience)
				if err != nil {
					t.Errorf("connection %d of %s to %s: %v", n, c[0], c[1], err)
					return
				}
				_ = conn.Close() // nothing was said
			}
		})
	}
	for range changesMade {
		for _, eps := range [][]string{{"b"}, {"a", "b"}, {"r"}, {"a"}} {
			b.change(endpoints("d/x", eps...))
		}
	}
	close(over)
	clients.Wait()
}

// changesMade is how often the endpoints go round, while connections begin all the time.
const changesMade = 100

func establishedStays(t *testing.T, s subject) {
	b := newBench(t, s, "service d/x NodePort 10.96.0.1,fd96::1 p:80/TCP[30001] q:53/UDP\n"+endpoints("d/x", "a")) // with UDP, so that flows are looked for
	var conns []*traffic.Conn
	for _, c := range [][2]string{{"b", "10.96.0.1:80/TCP"}, {"outside", "192.168.7.1:30001/TCP"}, {"node", "10.96.0.1:80/TCP"}, {"b", "[fd96::1]:80/TCP"}} {
		to, proto, _ := parse(t, c[1])
		conn, err := b.Dial(b.Host(c[0]), proto, to, patience)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		conns = append(conns, conn)
	}
	still := func(when string) {
		t.Helper()
		for _, c := range conns {
			if got, err := c.Ask(patience); err != nil || got.Server != "a" {
				t.Errorf("%s: %s -> %s answers %s, %v", when, c.LocalAddr(), c.RemoteAddr(), got, err)
			}
		}
	}
	still("at the beginning")
	b.change(endpoints("d/x", "a=serving", "b"))
	still("while the endpoint terminates")
	for range rounds {
		if got := b.who("c", "10.96.0.1:80/TCP"); got != "b" {
			t.Fatalf("a new connection went to %s", got)
		}
	}
	b.change(endpoints("d/x", "b"))
	still("after the endpoint has left")
	b.change("delete service d/x")
	still("after the Service was deleted")
}

func staleUDP(t *testing.T, s subject) {
	b := newBench(t, s, "service d/x NodePort 10.96.0.1,fd96::1 q:53/UDP[31001]\n"+endpoints("d/x", "a"))
	clients := map[string]*traffic.Conn{}
	dial := func(name string) *traffic.Conn {
		t.Helper()
		from, dst, _ := strings.Cut(name, " ")
		to, proto, _ := parse(t, dst)
		conn, err := b.Dial(b.Host(from), proto, to, patience)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		clients[name] = conn
		return conn
	}
	for _, c := range s.movable("b 10.96.0.1:53/UDP", "node 10.96.0.1:53/UDP", "outside 192.168.7.1:31001/UDP", "b [fd96::1]:53/UDP") {
		dial(c)
	}
	// The same socket, hence the same flow, all the time.
	expect := func(when, server string) {
		t.Helper()
		for name, c := range clients {
			got, err := c.Ask(patience)
			if ended(err) { // a socket of the node's own may be ended instead: it hears so, and begins anew
				c = dial(name)
				got, err = c.Ask(patience)
			}
			if got.Refused { // the first answer may be about what was sent before
				got, err = c.Ask(patience)
			}
			if err != nil || got.Server != server {
				t.Errorf("%s: %s answers %s, %v; want %q", when, name, got, err, server)
			}
		}
	}
	expect("at the beginning", "a")
	b.change(endpoints("d/x", "b"))
	expect("endpoint replaced", "b")
	b.change(endpoints("d/x"))
	for name, c := range clients {
		got, err := c.Ask(patience)
		if ended(err) {
			continue
		}
		if err != nil || !got.Refused {
			t.Errorf("no endpoints: %s answers %s, %v", name, got, err)
		}
	}
	b.change(endpoints("d/x", "c"))
	expect("from none to one", "c")
	b.stop()
	if err := b.world.Apply(endpoints("d/x", "a")); err != nil {
		t.Fatal(err)
	}
	b.start()
	expect("replaced while the proxy was down", "a")
	b.stop()
	if err := b.world.Apply("delete service d/x"); err != nil {
		t.Fatal(err)
	}
	b.start()
	if left := b.translated("10.96.0.1:53"); len(left) > 0 {
		t.Errorf("flows of a Service that went while the proxy was down: %v", left)
	}
	b.change("service d/x NodePort 10.96.0.2,fd96::2 q:53/UDP[31002]")
	b.change("service d/x NodePort 10.96.0.1,fd96::1 q:53/UDP[31001]\n" + endpoints("d/x", "b"))
	expect("gone and back", "b")
	b.explained("at the end")
}

func restart(t *testing.T, s subject) {
	b := newBench(t, s, "service d/x NodePort 10.96.0.1,fd96::1 p:80/TCP[30001] q:53/UDP affinity=3h\n"+endpoints("d/x", "a", "b", "c", "r"))
	b.change(endpoints("d/x", "a", "c", "r")) // so that slots are not in order
	first := b.who("b", "10.96.0.1:80/TCP")
	to, proto, _ := parse(t, "10.96.0.1:80/TCP")
	conn, err := b.Dial(b.Host("b"), proto, to, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	b.stop()
	b.start() // tidies up what the change before has left
	b.stop()
	if got := b.who("b", "10.96.0.1:80/TCP"); got != first {
		t.Errorf("without the proxy: %s after %s", got, first)
	}
	back, err := b.subj.open(b.Node.NS.Fd())
	if err != nil {
		t.Fatal(err)
	}
	if r, err := back.Apply(context.Background(), b.proxy.State()); err != nil || !r.Full || r.Messages != 0 {
		t.Errorf("a fresh back end writes %d messages (full %t), %v", r.Messages, r.Full, err)
	}
	_ = back.Close()
	b.start()
	if got, err := conn.Ask(patience); err != nil || got.Server != first {
		t.Errorf("established connection after the restart: %s, %v", got, err)
	}
	if got := b.who("b", "10.96.0.1:80/TCP"); got != first {
		t.Errorf("affinity after the restart: %s after %s", got, first)
	}
	// A change while the proxy was down.
	b.stop()
	if err := b.world.Apply("delete service d/x\nservice d/y ClusterIP 10.96.0.9 p:80/TCP\n" + endpoints("d/y", "b")); err != nil {
		t.Fatal(err)
	}
	b.start()
	b.agree("a -> 10.96.0.9:80/TCP")
	if got, err := b.Ask(b.Host("a"), 6, mustAddrPort("192.168.7.1:30001"), patience); err != nil || !got.Refused {
		t.Errorf("node port of a deleted Service: %s, %v", got, err)
	}
}

// foreignMarks: bits of the packet mark that somebody else has set stay, and a
// masquerade bit that is not ours does nothing.
func foreignMarks(t *testing.T, s subject) {
	b := newBench(t, s, "service d/x NodePort 10.96.0.1 p:80/TCP[30001]\n"+endpoints("d/x", "a"))
	b.Command("nft", `add table ip foreign;
		add chain ip foreign pre { type filter hook prerouting priority -150; };
		add rule ip foreign pre tcp flags syn meta mark set 0x80004001;
		add chain ip foreign post { type filter hook postrouting priority 300; };
		add rule ip foreign post tcp flags syn ct status dnat meta mark & 0x80000001 == 0x80000001 counter comment "kept";
		add rule ip foreign post tcp flags syn ct status dnat meta mark & 0x80000001 != 0x80000001 counter comment "lost"`)
	for _, c := range [][2]string{{"outside", "192.168.7.1:30001/TCP"}, {"outside", "10.96.0.1:80/TCP"}} {
		b.who(c[0], c[1])
	}
	out := ""
	if !b.subj.ownNAT {
		out = b.Command("nft", "list", "chain", "ip", "foreign", "post")
	}
	for line := range strings.Lines(out) {
		if strings.Contains(line, `"lost"`) && !strings.Contains(line, "packets 0 ") || strings.Contains(line, `"kept"`) && strings.Contains(line, "packets 0 ") {
			t.Errorf("marks of others: %s", line)
		}
	}
	// Straight to a pod, marked by somebody else: not ours to masquerade.
	to, proto, _ := parse(t, "10.244.1.2:8080/TCP")
	if got, err := b.Ask(b.Host("outside"), proto, to, patience); err != nil || got.Saw != b.Host("outside").IP4 {
		t.Errorf("a packet that somebody else marked: %s, %v", got, err)
	}
}

// repair: what somebody else broke is mended by the next look.
func repair(t *testing.T, s subject) {
	b := newBench(t, s, "service d/x NodePort 10.96.0.1,fd96::1 p:80/TCP[30001]\n"+endpoints("d/x", "a", "b"))
	b.Command("nft", "flush", "ruleset")
	b.Command("iptables", "-t", "nat", "-F")
	// Legacy tables are only looked at when they are there: looking makes them.
	b.Command("sh", "-c", "for f in ip ip6; do if grep -q nat /proc/net/${f}_tables_names; then ${f}tables-legacy -t nat -F; ${f}tables-legacy -F; fi; done")
	b.stop()
	b.start()
	b.agree("c -> 10.96.0.1:80/TCP", "outside -> 192.168.7.1:30001/TCP", "c -> [fd96::1]:80/TCP")
}

func cleanup(t *testing.T, s subject) {
	b := newBench(t, s, "service d/x NodePort 10.96.0.1,fd96::1 p:80/TCP[30001] affinity=3h\n"+endpoints("d/x", "a", "b"))
	before := b.Command("nft", "list", "tables")
	b.Command("nft", "add", "table", "ip", "foreign")
	b.who("c", "10.96.0.1:80/TCP")
	b.stop()
	cfg := proxy.Config{NetNS: b.Node.NS.Fd()}
	if s.configure != nil {
		s.configure(&cfg)
	}
	if left, err := proxy.Residue(context.Background(), cfg); err != nil || len(left) == 0 {
		t.Errorf("residue of a proxy that has stopped: %v, %v (tables %s)", left, err, before)
	}
	if _, err := proxy.Cleanup(context.Background(), cfg); err != nil {
		t.Error(err)
	}
	if left, err := proxy.Residue(context.Background(), cfg); err != nil || len(left) > 0 {
		t.Errorf("residue after Cleanup: %v, %v", left, err)
	}
	for table := range strings.Lines(b.Command("nft", "list", "tables")) {
		// iptables-nft keeps its tables, though nothing of ours is in them.
		switch strings.TrimSpace(table) {
		case "table ip foreign", "table ip nat", "table ip filter", "table ip6 nat", "table ip6 filter":
		default:
			t.Errorf("after Cleanup: %s", table)
		}
	}
	if got := b.Command("nft", "list", "ruleset"); strings.Contains(got, "NDP-") {
		t.Errorf("rules after Cleanup:\n%s", got)
	}
}
