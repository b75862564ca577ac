package prove

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"nodelet/internal/netns"
	"nodelet/internal/nl"
	"nodelet/proxy/lb"
	"nodelet/proxy/traffic"
)

// lab is the world of the cases in network namespaces: a node, its pods, a
// host outside and a second node with a pod. Servers answer on port 8080 of
// the pods, over TCP and UDP, with the source address they see.
type lab struct {
	ns      map[string]*netns.NS
	servers sync.WaitGroup
	closers []func() error
	// sockets wraps the making of clients' sockets on the node and in its pods; may be nil.
	sockets func(open func() error) error
	// ports are those of UDP clients.
	ports traffic.Ports
}

func newLab() (*lab, error) {
	l := &lab{ns: map[string]*netns.NS{}}
	if err := l.build(); err != nil {
		return nil, errors.Join(fmt.Errorf("build network namespaces for packets: %w", err), l.Close())
	}
	return l, nil
}

// Close ends the servers and lets the namespaces go.
func (l *lab) Close() error {
	var errs []error
	for i := len(l.closers) - 1; i >= 0; i-- {
		if err := l.closers[i](); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	l.servers.Wait()
	return errors.Join(errs...)
}

func (l *lab) build() error {
	for _, h := range hosts() {
		ns, err := netns.New()
		if err != nil {
			return err
		}
		l.ns[h.name] = ns
		l.closers = append(l.closers, ns.Close)
		if err := ns.Do(func() error { return settle(h.name == "node") }); err != nil {
			return err
		}
		if err := l.in(h.name, func(c *nl.Conn) error { return setUp(c, "lo") }); err != nil {
			return err
		}
	}
	// The node's addresses come with the machines, and routes to pods name them.
	for _, name := range []string{"outside", "r", "a", "b"} {
		if err := l.wire(hostOf(name)); err != nil {
			return fmt.Errorf("wire %s: %w", name, err)
		}
	}
	err := l.in("node", func(c *nl.Conn) error {
		// Everything has a route: a packet is translated only after it has one.
		return addRoutes(c, "10.244.2.0/24", "192.168.8.2", "fd44:2::/64", "fd08::2", "0.0.0.0/0", "192.168.7.9", "::/0", "fd07::9")
	})
	if err != nil {
		return err
	}
	for _, name := range []string{"a", "b", "r"} {
		if err := l.serve(hostOf(name)); err != nil {
			return fmt.Errorf("serve on %s: %w", name, err)
		}
	}
	return nil
}

// settle sets the sysctls of a namespace before it has links.
func settle(forward bool) error {
	set := map[string]string{"ipv6/conf/all/accept_dad": "0", "ipv6/conf/default/accept_dad": "0"}
	if forward {
		set["ipv4/ip_forward"], set["ipv6/conf/all/forwarding"] = "1", "1"
		set["ipv4/icmp_ratelimit"], set["ipv6/icmp/ratelimit"] = "0", "0" // or else only the first refusals are answered
	}
	for key, value := range set {
		if _, err := netns.WriteSysctl(key, value); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) in(host string, fn func(*nl.Conn) error) error {
	c, err := nl.OpenAt(l.ns[host].Fd())
	if err != nil {
		return err
	}
	defer c.Close()
	return fn(c)
}

func setUp(c *nl.Conn, name string) error {
	link, err := c.Link(name)
	if err != nil {
		return err
	}
	return c.SetUp(link.Index)
}

// addRoutes takes pairs of destination and next hop.
func addRoutes(c *nl.Conn, pairs ...string) error {
	for i := 0; i+1 < len(pairs); i += 2 {
		if err := c.AddRoute(nl.Route{Dst: netip.MustParsePrefix(pairs[i]), Via: netip.MustParseAddr(pairs[i+1])}); err != nil {
			return err
		}
	}
	return nil
}

func addAddrs(c *nl.Conn, link string, prefixes ...string) error {
	found, err := c.Link(link)
	if err != nil {
		return err
	}
	for _, p := range prefixes {
		if err := c.AddAddr(nl.Addr{Prefix: netip.MustParsePrefix(p), Link: found.Index}); err != nil {
			return err
		}
	}
	return nil
}

// wire joins a host with the node: pods as nodelet-cni does, machines by a network of their own.
func (l *lab) wire(h host) error {
	var mac net.HardwareAddr
	network := map[string]string{"outside": "7", "r": "8"}[h.name]
	err := l.in("node", func(c *nl.Conn) error {
		i, err := c.AddVeth(nl.Veth{Name: "to-" + h.name, PeerNS: l.ns[h.name].Fd(), PeerName: "eth0"})
		if err != nil {
			return err
		}
		link, err := c.LinkByIndex(i)
		if mac = link.MAC; err != nil {
			return err
		}
		if network != "" {
			return addAddrs(c, "to-"+h.name, "192.168."+network+".1/24", "fd0"+network+"::1/64")
		}
		for dst, src := range map[string]string{h.ip4 + "/32": "192.168.7.1", h.ip6 + "/128": "fd07::1"} {
			if err := c.AddRoute(nl.Route{Dst: netip.MustParsePrefix(dst), Link: i, Src: netip.MustParseAddr(src)}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return l.in(h.name, func(c *nl.Conn) error {
		if err := setUp(c, "eth0"); err != nil {
			return err
		}
		switch h.name {
		case "outside":
			err = addAddrs(c, "eth0", h.ip4+"/24", h.ip6+"/64")
		case "r":
			err = errors.Join(addAddrs(c, "eth0", "192.168.8.2/24", "fd08::2/64"), addAddrs(c, "lo", h.ip4+"/32", h.ip6+"/128"))
		default:
			return podEnd(c, h, mac)
		}
		if err != nil {
			return err
		}
		return addRoutes(c, "0.0.0.0/0", "192.168."+network+".1", "::/0", "fd0"+network+"::1")
	})
}

func podEnd(c *nl.Conn, h host, hop net.HardwareAddr) error {
	if err := addAddrs(c, "eth0", h.ip4+"/32", h.ip6+"/128"); err != nil {
		return err
	}
	link, err := c.Link("eth0")
	if err != nil {
		return err
	}
	for via, dst := range map[string]string{"169.254.1.1": "0.0.0.0/0", "fe80::1": "::/0"} {
		a := netip.MustParseAddr(via)
		if err := c.SetNeigh(nl.Neigh{Link: link.Index, IP: a, MAC: hop}); err != nil {
			return err
		}
		if err := c.AddRoute(nl.Route{Dst: netip.MustParsePrefix(dst), Via: a, Link: link.Index, Onlink: true}); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) serve(h host) error {
	for _, ip := range []string{h.ip4, h.ip6} {
		at := netip.AddrPortFrom(netip.MustParseAddr(ip), 8080).String()
		err := l.ns[h.name].Do(func() error {
			config := net.ListenConfig{}
			config.SetMultipathTCP(false)
			tcp, err := config.Listen(context.Background(), "tcp", at)
			if err != nil {
				return err
			}
			l.closers = append(l.closers, tcp.Close)
			l.servers.Go(func() { traffic.ServeTCP(tcp, ip) })
			udp, err := config.ListenPacket(context.Background(), "udp", at)
			if err != nil {
				return err
			}
			l.closers = append(l.closers, udp.Close)
			l.servers.Go(func() { traffic.ServeUDP(udp, ip) })
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// dial connects from a host with its own address.
func (l *lab) dial(from host, q traffic.Question) (c *traffic.Conn, err error) {
	if from.name == "r" { // which has addresses of its node as well
		q.From = from.ip(q.To.Addr().Is6())
	}
	q.FromPort = l.ports.Next()
	err = l.ns[from.name].Do(func() error {
		dial := func() error {
			c, err = traffic.Dial(q)
			return err
		}
		if l.sockets != nil && (from.name == "node" || from.from == lb.FromPod && from.node == "n1") {
			return l.sockets(dial)
		}
		return dial()
	})
	return c, err
}
