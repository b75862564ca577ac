package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/model"
	"nodelet/internal/store"
	"nodelet/proxy/eval"
	"nodelet/proxy/lb"
)

// outsideClient stands for any client elsewhere, outsideServer for any server:
// addresses that belong to nobody (RFC 5737, RFC 3849).
var (
	outsideClient  = [2]netip.Addr{netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("2001:db8:ffff::1")}
	outsideServer  = [2]netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8:fffe::1")}
	localhostAddrs = [2]netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}
)

// End is one end of the packet, resolved.
type End struct {
	// Name is what people call it.
	Name string     `json:"name"`
	Addr netip.Addr `json:"address,omitzero"`
	// Pod and Node are set when it is a pod's address: the node it runs on.
	Pod  *model.Key `json:"-"`
	Node string     `json:"node,omitempty"`
	// Here: on this node.
	Here bool `json:"onThisNode"`
	// Problem says why it cannot be what the user thinks.
	Problem *Finding `json:"-"`
}

// Question is the Query with all names resolved.
type Question struct {
	Query  Query
	From   End
	To     End
	Packet eval.Packet
	// Device is the interface the packet comes in by, when the user said so.
	Device string
	// Service is set when the destination is one by name.
	Service *model.Key
	// Problem is why there is no packet to follow; nil when there is one.
	Problem *Finding
}

// Names is what names are resolved by.
type Names struct {
	Snapshot *store.Snapshot
	State    *lb.State
	// NodeName, and the addresses on this node's links.
	NodeName      string
	NodeAddrs     []netip.Addr
	ClusterDomain string
	// LinkOf gives the link by which packets from an address come in, empty
	// when that is not known; may be nil.
	LinkOf func(netip.Addr) string `json:"-"`
}

// Resolve finds out which packet is asked for. What is not as the user thinks
// is a Problem of the Question; an error is a question that cannot be asked.
func Resolve(n Names, q Query) (Question, error) {
	r := Question{Query: q, Device: q.From.Device}
	proto := q.To.Proto
	to, err := n.destination(q, &r)
	if err != nil {
		return r, err
	}
	if r.Packet.Proto = r.Packet.Proto | proto; r.Packet.Proto == 0 {
		r.Packet.Proto = model.TCP
	}
	r.To = to
	ipv6 := to.Addr.Is6()
	if r.From, err = n.source(q.From, ipv6); err != nil {
		return r, err
	}
	for _, p := range []*Finding{r.To.Problem, r.From.Problem} {
		if p != nil && r.Problem == nil {
			r.Problem = p
		}
	}
	if r.From.Addr.IsValid() && to.Addr.IsValid() && r.From.Addr.Is6() != to.Addr.Is6() {
		return r, fmt.Errorf("resolve %s: %s is %s and %s is %s: no packet has addresses of two families", q.Text,
			r.From.Name, familyName(r.From.Addr), to.Name, familyName(to.Addr))
	}
	r.Packet.Src, r.Packet.Dst = r.From.Addr, netip.AddrPortFrom(to.Addr, r.Packet.Dst.Port())
	r.Packet.ToNode = n.ofNode(to.Addr)
	r.Packet.From = n.sourceKind(q.From, r.From)
	if r.Packet.From == lb.FromNode && r.Packet.ToNode && q.From.Kind != PlaceLocalhost {
		r.Packet.Src = to.Addr // a node that calls itself speaks with the address it calls
	}
	return r, nil
}

func familyName(a netip.Addr) string {
	if a.Is6() {
		return "IPv6"
	}
	return "IPv4"
}

func index(ipv6 bool) int {
	if ipv6 {
		return 1
	}
	return 0
}

func (n Names) ofNode(a netip.Addr) bool {
	return a.IsLoopback() || slices.Contains(n.NodeAddrs, a)
}

func (n Names) sourceKind(p Place, e End) lb.Source {
	switch {
	case p.Kind == PlaceOutside:
		return lb.FromOutside
	case p.Kind == PlaceNode, p.Kind == PlaceLocalhost, n.ofNode(e.Addr):
		return lb.FromNode
	case n.State == nil && e.Pod != nil, n.State != nil && n.State.Config().IsLocal(e.Addr, n.linkOf(p, e)):
		return lb.FromPod
	}
	return lb.FromOutside
}

// linkOf gives the link by which packets come in: the one the user names, or
// the one that leads back to their source.
func (n Names) linkOf(p Place, e End) string {
	switch {
	case p.Device != "":
		return p.Device
	case n.LinkOf == nil || !e.Addr.IsValid():
		return ""
	}
	return n.LinkOf(e.Addr)
}

// source resolves the source; ipv6 is the family of the destination.
func (n Names) source(p Place, ipv6 bool) (End, error) {
	switch p.Kind {
	case PlaceNode:
		return n.node(ipv6)
	case PlaceOutside:
		e := End{Name: "a client outside", Addr: outsideClient[index(ipv6)]}
		return e, nil
	case PlaceLocalhost:
		return End{Name: "localhost", Addr: localhostAddrs[index(ipv6)], Here: true, Node: n.NodeName}, nil
	case PlaceIP:
		return n.address(p.Addr), nil
	case PlaceName:
		if strings.Contains(p.Name, ".") {
			return End{}, fmt.Errorf("resolve source %q: name a pod (NAMESPACE/NAME) or an address", p.Name)
		}
	}
	return n.pod(p.Key, ipv6), nil
}

// destination resolves the destination; it notes Service, protocol and port in r.
func (n Names) destination(q Query, r *Question) (End, error) {
	p := q.To
	ipv6 := q.From.Addr.Is6() // an IPv6 source asks for IPv6
	port := func() { r.Packet.Dst = netip.AddrPortFrom(netip.Addr{}, p.Port) }
	port()
	if p.PortName != "" && p.Kind != PlaceService && p.Kind != PlaceName {
		return End{}, fmt.Errorf("resolve destination: port %q has a name, which only Services give: use its number", p.PortName)
	}
	switch p.Kind {
	case PlaceService:
		return n.service(p, r, ipv6)
	case PlacePod:
		return n.pod(p.Key, ipv6), nil
	case PlaceIP:
		return n.address(p.Addr), nil
	case PlaceNode, PlaceNodePort:
		return n.node(ipv6)
	case PlaceLocalhost:
		return End{Name: "localhost", Addr: localhostAddrs[index(ipv6)], Here: true, Node: n.NodeName}, nil
	case PlaceOutside:
		if p.Port == 0 {
			r.Packet.Dst = netip.AddrPortFrom(netip.Addr{}, 443)
		}
		return End{Name: "a server outside", Addr: outsideServer[index(ipv6)]}, nil
	}
	return n.named(q, r, ipv6)
}

// named resolves a bare name: a Service or a pod of the name, or a DNS name.
func (n Names) named(q Query, r *Question, ipv6 bool) (End, error) {
	p := q.To
	if strings.Contains(p.Name, ".") {
		return n.dnsName(q, r, ipv6)
	}
	if !strings.Contains(p.Name, "/") && q.From.Key.Namespace != "" {
		p.Key.Namespace = q.From.Key.Namespace
	}
	_, isService := n.Snapshot.Services.Get(p.Key)
	pod := n.pod(p.Key, ipv6)
	switch {
	case isService && pod.Problem == nil:
		return End{}, fmt.Errorf("resolve destination %q: there is a Service and a pod of that name: say svc/%s or pod/%s", p.Name, p.Key, p.Key)
	case pod.Problem == nil && p.PortName == "":
		return pod, nil
	}
	return n.service(p, r, ipv6)
}

// dnsName resolves name.namespace[.svc[.DOMAIN]], as the cluster's DNS would.
func (n Names) dnsName(q Query, r *Question, ipv6 bool) (End, error) {
	p := q.To
	name := strings.TrimSuffix(strings.ToLower(p.Name), ".")
	short, inDomain := strings.CutSuffix(name, "."+n.ClusterDomain)
	labels := strings.Split(short, ".")
	if len(labels) == 3 && labels[2] == "svc" {
		labels, inDomain = labels[:2], true
	}
	if len(labels) != 2 {
		return End{}, fmt.Errorf("resolve destination %q: not the name of a Service (NAME.NAMESPACE.svc.%s): for other names ask 'nodelet dns' or give the address", p.Name, n.ClusterDomain)
	}
	p.Key = model.Key{Namespace: labels[1], Name: labels[0]}
	if !inDomain && !n.hasNamespace(p.Key.Namespace) {
		return End{}, fmt.Errorf("resolve destination %q: no Service is in a namespace %q, so this is no name of the cluster: give the address", p.Name, p.Key.Namespace)
	}
	e, err := n.service(p, r, ipv6)
	if r.Service == nil && e.Problem != nil {
		e.Problem = broken(fmt.Sprintf("the DNS name %s does not exist: %s", p.Name, e.Problem.Cause), e.Problem.Mend)
	}
	return e, err
}

// hasNamespace tells whether any Service is in the namespace.
func (n Names) hasNamespace(name string) bool {
	for k := range n.Snapshot.Services.All() {
		if k.Namespace == name {
			return true
		}
	}
	return false
}

// node is this node, by its first address of the family.
func (n Names) node(ipv6 bool) (End, error) {
	if node, ok := n.Snapshot.Nodes.Get(model.Key{Name: n.NodeName}); ok {
		for _, a := range node.InternalIPs {
			if a.Is6() == ipv6 {
				return End{Name: "node " + n.NodeName, Addr: a, Here: true, Node: n.NodeName}, nil
			}
		}
	}
	return End{}, fmt.Errorf("resolve node %s: the API knows no %s address of it", n.NodeName, [2]string{"IPv4", "IPv6"}[index(ipv6)])
}

// address tells whose an address is.
func (n Names) address(a netip.Addr) End {
	if n.ofNode(a) {
		return End{Name: "node " + n.NodeName, Addr: a, Here: true, Node: n.NodeName}
	}
	if e, ok := n.podOf(a); ok {
		return e
	}
	e := End{Name: a.String(), Addr: a}
	for _, node := range n.Snapshot.Nodes.All() {
		if slices.Contains(node.InternalIPs, a) || slices.Contains(node.ExternalIPs, a) {
			e.Name, e.Node = "node "+node.Name, node.Name
		}
	}
	return e
}

func (n Names) podOf(a netip.Addr) (End, bool) {
	for _, p := range n.Snapshot.Pods.All() {
		for _, ip := range p.Status.PodIPs {
			if ip.IP == a.String() && !p.Spec.HostNetwork && !over(p) {
				k := model.Key{Namespace: p.Namespace, Name: p.Name}
				return End{Name: "pod " + k.String(), Addr: a, Pod: &k, Node: n.NodeName, Here: true}, true
			}
		}
	}
	for _, s := range n.Snapshot.Slices.All() {
		for _, e := range s.Endpoints {
			if e.Addr == a && e.Pod.Name != "" {
				k := e.Pod
				return End{Name: "pod " + k.String(), Addr: a, Pod: &k, Node: e.NodeName, Here: e.NodeName == n.NodeName}, true
			}
		}
	}
	return End{}, false
}

func over(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// pod finds a pod by name: among those of this node, or as an endpoint of some Service.
func (n Names) pod(k model.Key, ipv6 bool) End {
	for _, p := range n.Snapshot.Pods.All() {
		if p.Namespace == k.Namespace && p.Name == k.Name {
			return n.localPod(k, p, ipv6)
		}
	}
	for _, s := range n.Snapshot.Slices.All() {
		for _, e := range s.Endpoints {
			if e.Pod == k && e.Addr.Is6() == ipv6 {
				return End{Name: "pod " + k.String(), Addr: e.Addr, Pod: &k, Node: e.NodeName, Here: e.NodeName == n.NodeName}
			}
		}
	}
	return End{Name: "pod " + k.String(), Pod: &k, Problem: unknown(
		fmt.Sprintf("there is no pod %s on this node, and no Service has it as an endpoint", k),
		"check the name with 'kubectl get pod -A'; for a pod on another node ask there, or give its address")}
}

func (n Names) localPod(k model.Key, p *corev1.Pod, ipv6 bool) End {
	e := End{Name: "pod " + k.String(), Pod: &k, Node: n.NodeName, Here: true}
	for _, ip := range p.Status.PodIPs {
		if a, err := netip.ParseAddr(ip.IP); err == nil && a.Is6() == ipv6 {
			e.Addr = a
		}
	}
	switch {
	case over(p):
		e.Problem = broken(fmt.Sprintf("pod %s is over (%s): it sends and answers nothing", k, p.Status.Phase), "start another one")
	case !e.Addr.IsValid():
		e.Problem = broken(fmt.Sprintf("pod %s has no %s address yet (phase %s)", k, [2]string{"IPv4", "IPv6"}[index(ipv6)], p.Status.Phase),
			"see 'kubectl describe pod' for what it waits for")
	case p.Spec.HostNetwork:
		e.Pod = nil // it is the node, as far as packets go
	}
	return e
}
