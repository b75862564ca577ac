package prove

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"nodelet/proxy/eval"
	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
)

// The world of all cases: this node, another one, pods here and there.
const nodes = "node n1 192.168.7.1 192.168.8.1 fd07::1 fd08::1\nnode n2 192.168.8.2 fd08::2\n"

// host is somebody who sends and answers.
type host struct {
	name, ip4, ip6, node string
	from                 lb.Source
}

// ip is its address of a family.
func (h host) ip(ipv6 bool) netip.Addr {
	if ipv6 {
		return netip.MustParseAddr(h.ip6)
	}
	return netip.MustParseAddr(h.ip4)
}

func hosts() []host {
	return []host{
		{"a", "10.244.1.2", "fd44:1::2", "n1", lb.FromPod},
		{"b", "10.244.1.3", "fd44:1::3", "n1", lb.FromPod},
		{"node", "192.168.7.1", "fd07::1", "n1", lb.FromNode},
		{"outside", "192.168.7.9", "fd07::9", "", lb.FromOutside},
		{"r", "10.244.2.2", "fd44:2::2", "n2", lb.FromPod},
	}
}

func hostOf(name string) host {
	all := hosts()
	return all[max(0, slices.IndexFunc(all, func(h host) bool { return h.name == name }))]
}

// Case is a world and packets, as text: what is printed is what was run.
type Case struct {
	// World has one object per line (see package lbtest).
	World []string
	// Packets are "a -> 10.96.0.1:80/TCP", from hosts by name.
	Packets []string
}

// String is the case for people, and for a test of it.
func (c Case) String() string {
	return "world\n  " + strings.Join(c.World, "\n  ") + "\npackets\n  " + strings.Join(c.Packets, "\n  ") + "\n"
}

// podCIDRs of the cases.
func podCIDRs() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd44::/16")}
}

// State compiles the world.
func (c Case) State() (*lb.State, error) {
	w := lbtest.New()
	if err := w.Apply(nodes + strings.Join(c.World, "\n")); err != nil {
		return nil, fmt.Errorf("read world of a case: %w", err)
	}
	return lb.Compile(&lb.Config{NodeName: "n1", PodCIDRs: podCIDRs()}, w.Snapshot()), nil
}

// packet resolves one of the packets, and says who sends it.
func packet(text string) (eval.Packet, host, error) {
	from, dst, _ := strings.Cut(text, " -> ")
	p, err := lbtest.ParsePacket("node 127.0.0.1 -> " + dst)
	if err != nil {
		return p, host{}, err
	}
	h := hostOf(from)
	p.From, p.ToNode = h.from, ofNode(p.Dst.Addr())
	p.Src = h.ip(p.Dst.Addr().Is6())
	if h.from == lb.FromNode && p.ToNode {
		p.Src = p.Dst.Addr()
	}
	return p, h, nil
}

func ofNode(a netip.Addr) bool {
	return a.IsLoopback() || slices.Contains([]string{"192.168.7.1", "192.168.8.1", "fd07::1", "fd08::1"}, a.String())
}

// Random makes a case. What it makes is the same for the same state of r.
func Random(r *rand.Rand) Case {
	var c Case
	n := 1 + r.IntN(3)
	for i := range n {
		c.World = append(c.World, randomService(r, i))
		for _, family := range []int{4, 6} {
			c.World = append(c.World, randomSlice(r, i, family))
		}
	}
	if r.IntN(2) == 0 {
		c.World = append(c.World, "cidr k "+pick(r, "10.96.0.0/16,fd96::/112", "10.96.0.0/29", "5.6.0.0/16,10.96.0.0/16", "fd96::/64"))
	}
	for range 4 + r.IntN(5) {
		c.Packets = append(c.Packets, randomPacket(r, n))
	}
	return c
}

func pick(r *rand.Rand, from ...string) string { return from[r.IntN(len(from))] }

func randomService(r *rand.Rand, i int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "service d/s%d %s 10.96.0.%d,fd96::%d p:80/TCP[3000%d] q:53/UDP[3100%d]",
		i, pick(r, "ClusterIP", "NodePort", "LoadBalancer"), i+1, i+1, i, i)
	options := []string{
		"internal=local", "external=local", "affinity=1h", "ranges=192.168.7.0/28,10.244.1.2/32,fd07::8/125,fd44:1::/64",
		fmt.Sprintf("lb=1.2.3.%d lb=fd12::%d", i+1, i+1), fmt.Sprintf("extip=5.6.7.%d", i+1), fmt.Sprintf("lbproxy=1.2.4.%d", i+1),
		"extip=5.6.7.100", // claimed by several
	}
	for _, o := range options {
		if r.IntN(3) == 0 {
			b.WriteString(" " + o)
		}
	}
	return b.String()
}

func randomSlice(r *rand.Rand, i, family int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "slice d/s%d-%d of d/s%d p:8080/TCP q:8080/UDP", i, family, i)
	for _, name := range []string{"a", "b", "r"} {
		if r.IntN(2) == 0 {
			continue
		}
		h := hostOf(name)
		ip := h.ip4
		if family == 6 {
			ip = h.ip6
		}
		fmt.Fprintf(&b, " %s=%s@%s", ip, pick(r, "ready", "ready", "ready", "serving", "terminating", "not-ready"), h.node)
	}
	return b.String()
}

func randomPacket(r *rand.Rand, services int) string {
	i := r.IntN(services)
	dst := pick(r, "10.96.0.N:80/TCP", "10.96.0.N:53/UDP", "[fd96::N]:80/TCP", "[fd96::N]:53/UDP", "1.2.3.N:80/TCP", "[fd12::N]:80/TCP", "1.2.4.N:80/TCP",
		"5.6.7.N:80/TCP", "10.96.0.N:81/TCP", "10.96.0.9:80/TCP", "[fd96::9]:53/UDP", "5.6.7.N:81/TCP", "5.6.7.100:53/UDP", "192.168.7.1:3000I/TCP", "192.168.8.1:3100I/UDP", "[fd07::1]:3000I/TCP")
	dst = strings.NewReplacer("N", strconv.Itoa(i+1), "I", strconv.Itoa(i)).Replace(dst)
	return pick(r, "a", "b", "node", "outside", "r") + " -> " + dst
}
