package proxytest

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"testing"

	"nodelet/internal/netns"
	"nodelet/internal/nl"
	"nodelet/proxy/traffic"
)

// Lab is the network.
type Lab struct {
	t     testing.TB
	Node  *Host
	hosts map[string]*Host
	// sockets wraps the making of clients' sockets (see Sockets); may be nil.
	sockets func(open func() error) error
	// refusedByEPERM as the trait of that name says.
	refusedByEPERM bool
	// ports are those of UDP clients.
	ports traffic.Ports
}

// Host is one namespace. IP4 and IP6 are what it is known by.
type Host struct {
	Name     string
	IP4, IP6 netip.Addr
	NS       *netns.NS
}

// IP gives the host's address of a family.
func (h *Host) IP(ipv6 bool) netip.Addr {
	if ipv6 {
		return h.IP6
	}
	return h.IP4
}

// link is the name of the node's link to the host.
func (h *Host) link() string {
	if name, ok := map[string]string{"outside": "eth0", "second": "eth1", "r": "eth1"}[h.Name]; ok {
		return name
	}
	return "veth" + h.Name
}

var addr = netip.MustParseAddr

// NewLab builds the network and starts a server on each pod; without root the test is skipped.
func NewLab(t testing.TB) *Lab {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	l := &Lab{t: t, hosts: map[string]*Host{}}
	l.Node = l.host("node", "192.168.7.1", "fd07::1")
	l.inside(l.Node, func(*nl.Conn) error {
		for key, value := range map[string]string{
			"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1",
			// Or else only the first few refusals of UDP are answered.
			"ipv4/icmp_ratelimit": "0", "ipv6/icmp/ratelimit": "0",
		} {
			if _, err := netns.WriteSysctl(key, value); err != nil {
				return err
			}
		}
		return nil
	})
	outside, second := l.host("outside", "192.168.7.9", "fd07::9"), l.host("second", "192.168.8.2", "fd08::2")
	l.wire("eth0", []string{"192.168.7.1/24", "fd07::1/64"}, outside, []string{"192.168.7.9/24", "fd07::9/64"})
	l.wire("eth1", []string{"192.168.8.1/24", "fd08::1/64"}, second, []string{"192.168.8.2/24", "fd08::2/64"})
	for i, name := range []string{"a", "b", "c"} {
		l.pod(name, byte(i+2))
	}
	// The pod on the second node is that node itself, by another address.
	remote := &Host{Name: "r", IP4: addr("10.244.2.2"), IP6: addr("fd44:2::2"), NS: second.NS}
	l.hosts["r"] = remote
	l.inside(second, func(c *nl.Conn) error {
		lo, err := c.Link("lo")
		if err != nil {
			return err
		}
		if err := c.AddAddr(nl.Addr{Prefix: netip.PrefixFrom(remote.IP4, 32), Link: lo.Index}); err != nil {
			return err
		}
		return c.AddAddr(nl.Addr{Prefix: netip.PrefixFrom(remote.IP6, 128), Link: lo.Index})
	})
	l.inside(l.Node, func(c *nl.Conn) error {
		// The default routes lead to somewhere: a packet is translated only after it has a route.
		for dst, via := range map[string]string{
			"10.244.2.0/24": "192.168.8.2", "fd44:2::/64": "fd08::2", "0.0.0.0/0": "192.168.7.9", "::/0": "fd07::9",
		} {
			if err := c.AddRoute(nl.Route{Dst: netip.MustParsePrefix(dst), Via: addr(via)}); err != nil {
				return err
			}
		}
		return nil
	})
	return l
}

// Sockets has the sockets of clients on the node and in its pods made inside a
// call of within, as the trait of that name says.
func (l *Lab) Sockets(within func(open func() error) error) { l.sockets = within }

// Host gives a host by name.
func (l *Lab) Host(name string) *Host {
	h := l.hosts[name]
	if h == nil {
		l.t.Fatalf("no host %q", name)
	}
	return h
}

func (l *Lab) host(name, ip4, ip6 string) *Host {
	l.t.Helper()
	ns, err := netns.New()
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = ns.Close() })
	h := &Host{Name: name, IP4: addr(ip4), IP6: addr(ip6), NS: ns}
	l.hosts[name] = h
	l.inside(h, func(c *nl.Conn) error {
		lo, err := c.Link("lo")
		if err != nil {
			return err
		}
		// Without this a node's links are not usable over IPv6 for a second or two.
		for _, key := range []string{"ipv6/conf/all/accept_dad", "ipv6/conf/default/accept_dad"} {
			if _, err := netns.WriteSysctl(key, "0"); err != nil {
				return err
			}
		}
		return c.SetUp(lo.Index)
	})
	return h
}

// inside runs f in a host's namespace with a connection to its links.
func (l *Lab) inside(h *Host, f func(*nl.Conn) error) {
	l.t.Helper()
	err := h.NS.Do(func() error {
		c, err := nl.Open()
		if err != nil {
			return err
		}
		defer c.Close()
		return f(c)
	})
	if err != nil {
		l.t.Fatalf("in %s: %v", h.Name, err)
	}
}

// wire joins the node with another host, which gets default routes to it.
func (l *Lab) wire(name string, node []string, other *Host, theirs []string) {
	l.t.Helper()
	assign := func(c *nl.Conn, link int, prefixes []string) error {
		for _, p := range prefixes {
			if err := c.AddAddr(nl.Addr{Prefix: netip.MustParsePrefix(p), Link: link}); err != nil {
				return err
			}
		}
		return nil
	}
	l.inside(l.Node, func(c *nl.Conn) error {
		i, err := c.AddVeth(nl.Veth{Name: name, PeerNS: other.NS.Fd(), PeerName: "eth0"})
		if err != nil {
			return err
		}
		return assign(c, i, node)
	})
	l.inside(other, func(c *nl.Conn) error {
		link, err := c.Link("eth0")
		if err != nil {
			return err
		}
		if err := c.SetUp(link.Index); err != nil {
			return err
		}
		if err := assign(c, link.Index, theirs); err != nil {
			return err
		}
		for i, any := range []string{"0.0.0.0/0", "::/0"} {
			via := netip.MustParsePrefix(node[i]).Addr()
			if err := c.AddRoute(nl.Route{Dst: netip.MustParsePrefix(any), Via: via}); err != nil {
				return err
			}
		}
		return nil
	})
}

// pod attaches a pod to the node as nodelet-cni does: a host route on the
// node's end, a next hop that is only a neighbour entry on the pod's.
func (l *Lab) pod(name string, n byte) {
	l.t.Helper()
	ip4, ip6 := fmt.Sprintf("10.244.1.%d", n), fmt.Sprintf("fd44:1::%d", n)
	h := l.host(name, ip4, ip6)
	var mac nl.Link
	l.inside(l.Node, func(c *nl.Conn) error {
		i, err := c.AddVeth(nl.Veth{Name: "veth" + name, PeerNS: h.NS.Fd(), PeerName: "eth0"})
		if err != nil {
			return err
		}
		if mac, err = c.LinkByIndex(i); err != nil {
			return err
		}
		if err := c.AddRoute(nl.Route{Dst: netip.PrefixFrom(h.IP4, 32), Link: i, Src: l.Node.IP4}); err != nil {
			return err
		}
		return c.AddRoute(nl.Route{Dst: netip.PrefixFrom(h.IP6, 128), Link: i, Src: l.Node.IP6})
	})
	l.inside(h, func(c *nl.Conn) error {
		link, err := c.Link("eth0")
		if err != nil {
			return err
		}
		if err := c.SetUp(link.Index); err != nil {
			return err
		}
		for ip, hop := range map[netip.Addr]string{h.IP4: "169.254.1.1", h.IP6: "fe80::1"} {
			if err := c.AddAddr(nl.Addr{Prefix: netip.PrefixFrom(ip, ip.BitLen()), Link: link.Index}); err != nil {
				return err
			}
			if err := c.SetNeigh(nl.Neigh{Link: link.Index, IP: addr(hop), MAC: mac.MAC}); err != nil {
				return err
			}
			any := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
			if ip.Is6() {
				any = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
			}
			if err := c.AddRoute(nl.Route{Dst: any, Via: addr(hop), Link: link.Index, Onlink: true}); err != nil {
				return err
			}
		}
		return nil
	})
}

// Dump prints what the node's kernel has, for a test that failed.
func (l *Lab) Dump() string {
	var out string
	_ = l.Node.NS.Do(func() error {
		for _, cmd := range [][]string{
			{"nft", "-a", "list", "ruleset"}, {"iptables-save"}, {"conntrack", "-L"}, {"conntrack", "-L", "-f", "ipv6"},
			{"ip", "addr"}, {"ip", "route"}, {"ip", "-6", "route"},
		} {
			text, err := exec.Command(cmd[0], cmd[1:]...).CombinedOutput()
			out += fmt.Sprintf("--- %v (%v)\n%s", cmd, err, text)
		}
		return nil
	})
	return out
}

// Command runs a program on the node.
func (l *Lab) Command(name string, args ...string) string {
	l.t.Helper()
	var out []byte
	err := l.Node.NS.Do(func() (err error) {
		out, err = exec.Command(name, args...).CombinedOutput()
		return err
	})
	if err != nil {
		l.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}
