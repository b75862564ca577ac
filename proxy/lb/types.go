package lb

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"nodelet/internal/model"
)

// Config is what the meaning depends on besides the API's objects.
type Config struct {
	// NodeName is the node whose traffic is balanced: "local" means here.
	NodeName string
	// PodCIDRs are the addresses of all pods of the cluster.
	PodCIDRs []netip.Prefix
	// Local tells local pods from other sources. A family that has none to tell
	// has its traffic to ClusterIPs not masqueraded.
	Local LocalTraffic
	// MasqueradeAll masquerades all traffic to ClusterIPs.
	MasqueradeAll bool
	// NodePortAddresses limits node ports to addresses of the node inside
	// these. A family without any has them on all addresses.
	NodePortAddresses []netip.Prefix
	// ExternalIPRanges limits the external IPs of Services to those inside: any
	// user who may make a Service may else take any address's traffic
	// (CVE-2020-8554). None is no limit.
	ExternalIPRanges []netip.Prefix
	// LocalhostNodePorts serves IPv4 node ports on loopback addresses too. It
	// needs the sysctl route_localnet (CVE-2020-8558), hence not by default.
	LocalhostNodePorts bool
	// ServiceCIDRs are the ranges that ClusterIPs are taken from, none inside
	// another. A State's Config has them from the API's objects: what is sent to
	// an address of theirs that is nobody's is dropped, or it would leave the
	// node by the default route.
	ServiceCIDRs []netip.Prefix
	// Answered are ClusterIPs at which the node itself answers, such as its DNS:
	// Services with one of them are not balanced.
	Answered []netip.Addr
	// Maglev: Ports are balanced by a Maglev table unless their Service says
	// otherwise, in back ends that can.
	Maglev bool
	// MaglevSize is the length of these tables; 0 is maglev.DefaultSize.
	MaglevSize int
	// MasqueradeMark is the bit of the packet mark by which the choice of an
	// endpoint tells postrouting to masquerade; 0 is DefaultMasqueradeMark.
	MasqueradeMark uint32
}

// DefaultMasqueradeMark is bit 14, as in kube-proxy.
const DefaultMasqueradeMark = 1 << 14

// Mark is the masquerade bit in use.
func (c *Config) Mark() uint32 { return cmp.Or(c.MasqueradeMark, DefaultMasqueradeMark) }

// TakesExternalIP tells whether Services may have an external IP.
func (c *Config) TakesExternalIP(a netip.Addr) bool {
	return len(c.ExternalIPRanges) == 0 || slices.ContainsFunc(c.ExternalIPRanges, func(p netip.Prefix) bool { return p.Contains(a) })
}

// NodePortRanges gives the ranges that node ports of a family are limited to;
// none means that they are not.
func (c *Config) NodePortRanges(ipv6 bool) (out []netip.Prefix) {
	for _, p := range c.NodePortAddresses {
		if p.Addr().Is6() != ipv6 {
			continue
		}
		if p.Bits() == 0 {
			return nil
		}
		out = append(out, p.Masked())
	}
	return out
}

// LoopbackNodePorts tells whether node ports of a family answer on loopback addresses.
func (c *Config) LoopbackNodePorts(ipv6 bool) bool { return c.LocalhostNodePorts && !ipv6 }

// NodePortsOn tells whether node ports answer on an address of the node.
func (c *Config) NodePortsOn(a netip.Addr) bool {
	ranges := c.NodePortRanges(a.Is6())
	return (!a.IsLoopback() || c.LoopbackNodePorts(a.Is6())) &&
		(len(ranges) == 0 || slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Contains(a) }))
}

// Frontend is an address that is balanced. An unspecified Addr (0.0.0.0 or ::)
// is a node port: any address of the node, of that family. Proto 0 and Port 0
// stand for all that is sent to a ClusterIP and has no frontend of its own
// (AnyPort, Elsewhere).
type Frontend struct {
	Addr  netip.Addr
	Proto model.Protocol
	Port  uint16
}

// NodePort tells whether the frontend is a node port.
func (f Frontend) NodePort() bool { return f.Addr.IsUnspecified() }

// IPv6 tells the family.
func (f Frontend) IPv6() bool { return f.Addr.Is6() }

// String is "addr:port/proto", "*:port/proto" for a node port, "addr" for the rest of a ClusterIP.
func (f Frontend) String() string {
	switch {
	case f.Proto == 0:
		return f.Addr.String()
	case f.Addr.Is4() && f.NodePort():
		return fmt.Sprintf("*:%d/%s", f.Port, f.Proto)
	case f.NodePort():
		return fmt.Sprintf("[*]:%d/%s", f.Port, f.Proto)
	}
	return fmt.Sprintf("%s/%s", netip.AddrPortFrom(f.Addr, f.Port), f.Proto)
}

// Compare orders by address, port, protocol.
func (f Frontend) Compare(o Frontend) int {
	if c := f.Addr.Compare(o.Addr); c != 0 {
		return c
	}
	if c := int(f.Port) - int(o.Port); c != 0 {
		return c
	}
	return int(f.Proto) - int(o.Proto)
}

// Kind is what a frontend is to its Service.
type Kind uint8

// The kinds. AnyPort is the rest of a ClusterIP: ports that no Service port has.
// Elsewhere is the whole ClusterIP of a Service that is not balanced here: its
// packets go their way. Unassigned is an address of Config.ServiceCIDRs that no
// Service has; no Frontend has that kind.
const (
	ClusterIP Kind = iota
	NodePort
	LoadBalancerIP // before ExternalIP: an address that is both keeps its source ranges
	ExternalIP
	AnyPort
	Elsewhere
	Unassigned
)

// WholeAddress tells the kinds that are named by an address alone.
func (k Kind) WholeAddress() bool { return k >= AnyPort }

// String names the kind as Kubernetes does.
func (k Kind) String() string {
	return [...]string{"ClusterIP", "NodePort", "LoadBalancerIP", "ExternalIP", "AnyPort", "Elsewhere", "Unassigned"}[k]
}

// Endpoint is a chosen back end.
type Endpoint struct {
	netip.AddrPort
	// Here: it may run on this node, so that it may reach itself through its Service.
	Here bool
}

// Port is one port of a Service in one family, with the endpoints chosen for it.
// A Service that is not balanced here has one without protocol and number for
// each ClusterIP.
type Port struct {
	Service model.Key
	Name    string
	Proto   model.Protocol
	// ClusterIP and port: the Port's name towards the kernel.
	ClusterIP netip.AddrPort
	// Affinity > 0: a client stays with its endpoint until that long after its last connection.
	Affinity time.Duration
	// Maglev: a connection's hash decides about its endpoint, in back ends that can.
	Maglev        bool
	InternalLocal bool
	ExternalLocal bool
	// Sources limits who may use a load balancer IP; empty is everyone.
	Sources []netip.Prefix
	// Cluster and Local are the endpoints for the two traffic policies, in
	// order; nil when the policy is not used.
	Cluster []Endpoint
	Local   []Endpoint
	// Usable: some endpoint can be used somewhere, if not from here.
	Usable bool
	// Serving are all endpoints that still serve, chosen or not: flows to them
	// are right. Only for UDP.
	Serving []netip.AddrPort
	// Others are the frontends besides the ClusterIP.
	Others []Claim
}

// Claim is a frontend that a Port asks for.
type Claim struct {
	Frontend
	Kind Kind
}

func (p *Port) equal(o *Port) bool {
	return p.Service == o.Service && p.Name == o.Name && p.Proto == o.Proto && p.ClusterIP == o.ClusterIP &&
		p.Affinity == o.Affinity && p.Maglev == o.Maglev && p.InternalLocal == o.InternalLocal && p.ExternalLocal == o.ExternalLocal &&
		p.Usable == o.Usable && slices.Equal(p.Sources, o.Sources) && slices.Equal(p.Cluster, o.Cluster) &&
		slices.Equal(p.Local, o.Local) && slices.Equal(p.Serving, o.Serving) && slices.Equal(p.Others, o.Others)
}

// Target is who answers a frontend.
type Target struct {
	*Port
	Kind Kind
}

// precedence orders the claims on one frontend. The kind comes first: nobody
// takes another Service's ClusterIP by naming it as an external IP
// (CVE-2020-8554).
func (t Target) precedence(o Target) int {
	return cmp.Or(
		cmp.Compare(t.Kind, o.Kind), t.Service.Compare(o.Service),
		cmp.Compare(t.Name, o.Name), cmp.Compare(t.Proto, o.Proto),
	)
}

// Source is where a packet comes from, as far as it matters.
type Source uint8

// The sources.
const (
	FromPod Source = iota
	FromNode
	FromOutside
)

// String is the source in lower case.
func (s Source) String() string { return [...]string{"pod", "node", "outside"}[s] }

// Action is what happens to a packet for a frontend.
type Action uint8

// The actions.
const (
	// Balance sends it to one of the endpoints.
	Balance Action = iota
	// Reject answers that nobody listens.
	Reject
	// Drop says nothing.
	Drop
)

// String is the action in lower case.
func (a Action) String() string { return [...]string{"balance", "reject", "drop"}[a] }

// Route is where packets from one source go.
type Route struct {
	Action Action
	// Local: the endpoints are Port.Local, not Port.Cluster.
	Local     bool
	Endpoints []Endpoint
	// Masquerade: the source address becomes the node's. A packet whose
	// endpoint is its own source is masqueraded in any case.
	Masquerade bool
}

// Route gives what happens to packets from a source.
func (t Target) Route(cfg *Config, from Source) Route {
	switch {
	case t.Kind == AnyPort || !t.Usable:
		return Route{Action: Reject}
	case t.Kind == ClusterIP:
		masquerade := cfg.MasqueradeAll || from != FromPod && cfg.KnowsPods(t.ClusterIP.Addr().Is6())
		return t.balance(t.InternalLocal, masquerade)
	case !t.ExternalLocal:
		return t.balance(false, true)
	case from == FromOutside:
		return t.balance(true, false)
	}
	// Traffic from this node to an external address goes as if it had left the
	// cluster and come back: to any endpoint, whatever the policy. The node's
	// own source may be the very address it calls, hence the masquerade.
	return t.balance(false, from == FromNode)
}

func (t Target) balance(local, masquerade bool) Route {
	r := Route{Local: local, Endpoints: t.Cluster, Masquerade: masquerade}
	if local {
		r.Endpoints = t.Local
	}
	if len(r.Endpoints) == 0 {
		return Route{Action: Drop}
	}
	return r
}

// Admits tells whether the frontend may be used from that address.
func (t Target) Admits(a netip.Addr) bool {
	if t.Kind != LoadBalancerIP || len(t.Sources) == 0 {
		return true
	}
	return slices.ContainsFunc(t.Sources, func(p netip.Prefix) bool { return p.Contains(a) })
}

// String is the Port in full: what it is, its endpoints by policy, its frontends.
func (p *Port) String() string {
	if p.Proto == 0 {
		return fmt.Sprintf("%s %s elsewhere\n", p.Service, p.ClusterIP.Addr())
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%s %s/%s", p.Service, p.Name, p.ClusterIP, p.Proto)
	if p.Affinity > 0 {
		fmt.Fprintf(&b, " affinity=%s", p.Affinity)
	}
	if p.InternalLocal {
		b.WriteString(" internal=local")
	}
	if p.ExternalLocal {
		b.WriteString(" external=local")
	}
	if len(p.Sources) > 0 {
		fmt.Fprintf(&b, " sources=%v", p.Sources)
	}
	if !p.Usable {
		b.WriteString(" unusable")
	}
	b.WriteByte('\n')
	for _, c := range p.Others {
		fmt.Fprintf(&b, "  %s %s\n", c.Kind, c.Frontend)
	}
	list := func(name string, eps []Endpoint) {
		for _, e := range eps {
			here := ""
			if e.Here {
				here = " here"
			}
			fmt.Fprintf(&b, "  %s %s%s\n", name, e.AddrPort, here)
		}
	}
	list("cluster", p.Cluster)
	list("local", p.Local)
	return b.String()
}
