package linkplan

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"strings"
)

// Group is the interface group of every host end: `ip link show group 77`
// lists them, and a restarted daemon knows them by it.
const Group = 77

// The smallest MTUs that IPv4 hosts must take whole, and IPv6 links must have.
const (
	minMTU4 = 576
	minMTU6 = 1280
	maxMTU  = 65535
)

// vethPrefix begins the names of host ends.
const vethPrefix = "veth"

// Next hops of pods. They are on no link: permanent neighbour entries lead to the host end.
var (
	gateway4 = netip.AddrFrom4([4]byte{169, 254, 1, 1})
	gateway6 = netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: 1})
)

// Gateway is the next hop of pods for the family of addr.
func Gateway(addr netip.Addr) netip.Addr {
	if addr.Is4() {
		return gateway4
	}
	return gateway6
}

// MAC is an Ethernet address.
type MAC [6]byte

// String is the usual notation with colons.
func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// Request names one attachment: a sandbox and the interface in it.
type Request struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifName"`
	// Bandwidth limits the attachment.
	Bandwidth Bandwidth `json:"bandwidth,omitzero"`
}

// Network is what all attachments of a node have in common.
type Network struct {
	// MTU is that of the uplink.
	MTU int `json:"mtu"`
	// NodeIPs are the addresses with which the host talks to its pods, at most one per family.
	NodeIPs []netip.Addr `json:"nodeIPs"`
}

// Sysctl is a network sysctl; one that this kernel lacks is skipped.
type Sysctl struct{ Key, Value string }

// Route is a route out of the end it belongs to.
type Route struct {
	Dst netip.Prefix
	// Via is not valid for a route straight onto the link.
	Via netip.Addr
	// Src is a preference: without that address on the host the kernel chooses.
	Src netip.Addr
}

// Neigh is a permanent neighbour entry.
type Neigh struct {
	IP  netip.Addr
	MAC MAC
}

// End is one side of the pair.
type End struct {
	Name    string
	MAC     MAC
	Sysctls []Sysctl
	Addrs   []netip.Prefix
	Neighs  []Neigh
	Routes  []Route
	// MTU, ToPod and FromPod are the host end's: what it sends, and what it
	// receives, which goes through the link IfbName; nil for no limit.
	MTU            int
	ToPod, FromPod *Shape
}

// Plan is everything an attachment consists of. Host is created up, in the
// namespace of the node; Pod is created inside the pod's namespace, where
// loopback is set up too.
type Plan struct {
	MTU       int
	Host, Pod End
}

// VethName is the name of the host end for a request.
func VethName(r Request) string {
	// 15 characters at most; 44 bits of hash keep a node's few hundred apart.
	return fmt.Sprintf("%s%011x", vethPrefix, hash(r)>>20)
}

func hash(r Request) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(r.ContainerID + "/" + r.IfName))
	return h.Sum64()
}

// macs gives locally administered unicast addresses of the two ends.
func macs(r Request) (host, pod MAC) {
	h := hash(r)
	for i := range 6 {
		host[i] = byte(h >> (8 * i))
	}
	host[0] = host[0]&^0x03 | 0x02
	pod = host
	pod[5] ^= 1
	return host, pod
}

// Make plans the attachment of a pod with these addresses, at most one per family.
func Make(req Request, network Network, addrs []netip.Addr) (Plan, error) {
	if err := validate(req, network, addrs); err != nil {
		return Plan{}, err
	}
	p := Plan{MTU: network.MTU}
	p.Host.Name, p.Pod.Name = VethName(req), req.IfName
	p.Host.MAC, p.Pod.MAC = macs(req)
	p.Host.Sysctls, p.Pod.Sysctls = sysctls(p, addrs)
	p.Host.MTU, p.Host.ToPod, p.Host.FromPod = p.MTU, req.Bandwidth.Ingress.shape(p.MTU), req.Bandwidth.Egress.shape(p.MTU)
	for _, a := range addrs {
		own := netip.PrefixFrom(a, a.BitLen())
		gw := Gateway(a)
		p.Pod.Addrs = append(p.Pod.Addrs, own)
		p.Pod.Neighs = append(p.Pod.Neighs, Neigh{IP: gw, MAC: p.Host.MAC})
		p.Pod.Routes = append(p.Pod.Routes, Route{Dst: defaultRoute(a), Via: gw})
		p.Host.Neighs = append(p.Host.Neighs, Neigh{IP: a, MAC: p.Pod.MAC})
		p.Host.Routes = append(p.Host.Routes, Route{Dst: own, Src: sameFamily(network.NodeIPs, a)})
	}
	return p, nil
}

func validate(req Request, network Network, addrs []netip.Addr) error {
	if req.ContainerID == "" || req.IfName == "" || req.IfName == "lo" || len(req.IfName) > 15 {
		return fmt.Errorf("plan attachment %q/%q: a container id and an interface name of 1 to 15 characters, not lo, are needed",
			req.ContainerID, req.IfName)
	}
	if len(addrs) == 0 {
		return fmt.Errorf("plan attachment %s/%s: no address", req.ContainerID, req.IfName)
	}
	var has4, has6 bool
	for _, a := range addrs {
		if !a.IsValid() || a.Is4() && has4 || a.Is6() && has6 {
			return fmt.Errorf("plan attachment %s/%s: addresses %v: one valid address per family is needed", req.ContainerID, req.IfName, addrs)
		}
		has4, has6 = has4 || a.Is4(), has6 || a.Is6()
	}
	least := minMTU4
	if has6 {
		least = minMTU6
	}
	if network.MTU < least || network.MTU > maxMTU {
		return fmt.Errorf("plan attachment %s/%s: mtu %d is outside %d to %d", req.ContainerID, req.IfName, network.MTU, least, maxMTU)
	}
	return nil
}

// sysctls makes the host end a router port that believes nothing a pod says
// about routing, and keeps IPv6 off where the pod has none.
func sysctls(p Plan, addrs []netip.Addr) (host, pod []Sysctl) {
	h4, h6, p6 := "ipv4/conf/"+p.Host.Name+"/", "ipv6/conf/"+p.Host.Name+"/", "ipv6/conf/"+p.Pod.Name+"/"
	var has4, has6 bool
	for _, a := range addrs {
		has4, has6 = has4 || a.Is4(), has6 || a.Is6()
	}
	if has4 {
		// Strict: a pod sends from its own address or not at all.
		host = append(host, Sysctl{h4 + "forwarding", "1"}, Sysctl{h4 + "rp_filter", "1"}, Sysctl{h4 + "accept_redirects", "0"})
	}
	if !has6 {
		return append(host, Sysctl{h6 + "disable_ipv6", "1"}), nil
	}
	host = append(host, Sysctl{h6 + "accept_ra", "0"}, Sysctl{h6 + "accept_redirects", "0"}, Sysctl{h6 + "forwarding", "1"})
	pod = []Sysctl{{p6 + "disable_ipv6", "0"}, {p6 + "accept_ra", "0"}}
	return host, pod
}

func defaultRoute(a netip.Addr) netip.Prefix {
	if a.Is4() {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

func sameFamily(from []netip.Addr, a netip.Addr) netip.Addr {
	for _, f := range from {
		if f.Is4() == a.Is4() {
			return f
		}
	}
	return netip.Addr{}
}

// String is the plan as a person would type it, and the golden text.
func (p Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "host\n  link %s mac %s mtu %d group %d up, peer %s mac %s in pod\n",
		p.Host.Name, p.Host.MAC, p.MTU, Group, p.Pod.Name, p.Pod.MAC)
	p.Host.print(&b)
	fmt.Fprintf(&b, "pod\n  link lo up\n  link %s up\n", p.Pod.Name)
	p.Pod.print(&b)
	return b.String()
}

func (e End) print(b *strings.Builder) {
	if e.ToPod != nil {
		fmt.Fprintf(b, "  shape %s\n", e.ToPod)
	}
	if e.FromPod != nil {
		fmt.Fprintf(b, "  link %s ifb mtu %d group %d up, shape %s, gets what %s receives\n", IfbName(e.Name), e.MTU, Group, e.FromPod, e.Name)
	}
	for _, s := range e.Sysctls {
		fmt.Fprintf(b, "  sysctl %s=%s\n", s.Key, s.Value)
	}
	for _, a := range e.Addrs {
		fmt.Fprintf(b, "  addr %s\n", a)
	}
	for _, n := range e.Neighs {
		fmt.Fprintf(b, "  neigh %s mac %s permanent\n", n.IP, n.MAC)
	}
	for _, r := range e.Routes {
		fmt.Fprintf(b, "  route %s", r.Dst)
		if r.Via.IsValid() {
			fmt.Fprintf(b, " via %s onlink", r.Via)
		}
		if r.Src.IsValid() {
			fmt.Fprintf(b, " src %s", r.Src)
		}
		b.WriteString("\n")
	}
}
