package gather

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"nodelet/explain"
	"nodelet/internal/model"
	"nodelet/internal/netns"
	"nodelet/internal/nft/sim"
	"nodelet/internal/nl"
	"nodelet/proxy/eval"
	"nodelet/proxy/lb"
)

// maxPaths bounds how many endpoints are looked at one by one.
const maxPaths = 64

// readPaths looks at the way to each address where the packet may go.
func (r *reader) readPaths() {
	f := r.facts
	ends := slices.Clone(f.Verdict.Endpoints)
	if f.Verdict.Outcome == eval.NoService {
		ends = []netip.AddrPort{f.Packet.Dst}
	}
	for _, w := range f.Ways {
		if w.End == sim.Passed && w.Translated && !slices.Contains(ends, w.Dst) {
			ends = append(ends, w.Dst)
		}
	}
	if len(ends) > maxPaths {
		r.unread("the ways to %d of %d endpoints: only the first %d are looked at", len(ends)-maxPaths, len(ends), maxPaths)
		ends = ends[:maxPaths]
	}
	for _, to := range ends {
		f.Paths = append(f.Paths, r.path(to))
	}
}

func (r *reader) path(to netip.AddrPort) explain.Path {
	f := r.facts
	p := explain.Path{To: to, Listening: explain.NotKnown}
	for _, v := range f.Views {
		for _, e := range v.Endpoints {
			if e.Address == to {
				p.Name, p.Node = e.Pod, e.Node
			}
		}
	}
	if p.Name == "" && to.Addr() == f.To.Addr && f.To.Pod != nil {
		p.Name, p.Node = f.To.Pod.String(), f.To.Node
	}
	pod, isPod := r.attachment(to.Addr())
	onNode := slices.Contains(f.NodeAddrs, to.Addr()) || to.Addr().IsLoopback()
	p.Here = isPod || onNode
	r.route(&p, f.Packet.Src)
	switch {
	case isPod:
		p.Pod = r.link(pod, to.Addr())
		if p.Obstacle == explain.NoObstacle && p.Device != "" && p.Device != pod.Link {
			p.Obstacle, p.Detail = explain.WrongWay, fmt.Sprintf("to %s, and the pod is on %s", p.Device, pod.Link)
		}
		r.sockets(&p, pod.Netns)
		r.back(&p, pod)
	case onNode:
		r.socketsHere(&p)
	case p.Node == f.NodeName && p.Node != "":
		r.unread("the link and the sockets of %s: its network is not nodelet's", p.To.Addr())
	}
	if !p.Here && p.Obstacle == explain.NoObstacle {
		r.otherNode(&p)
		r.hop(&p)
	}
	return p
}

// route asks the kernel for the way of this very packet.
func (r *reader) route(p *explain.Path, src netip.Addr) {
	f := r.facts
	ask := nl.Asked{Dst: p.To.Addr()}
	if f.Packet.From != lb.FromNode {
		ask.Src, ask.In = src, r.device()
		if ask.In == "unknown" {
			return
		}
	}
	if src == p.To.Addr() {
		ask.Src, ask.In = netip.Addr{}, "" // a pod that reaches itself: the kernel refuses to be asked
	}
	route, err := r.conn.Ask(ask)
	if err != nil {
		p.Obstacle, p.Detail = r.obstacle(err, ask)
		if p.Obstacle == explain.NoObstacle {
			r.unread("the way to %s: %v", p.To.Addr(), err)
		}
		return
	}
	p.Route = routeText(route)
	if link, err := r.conn.LinkByIndex(route.Link); err == nil {
		p.Device = link.Name
		p.Route = strings.ReplaceAll(p.Route, fmt.Sprintf("#%d", route.Link), link.Name)
		if up, err := r.conn.Running(link.Name); err == nil && !up {
			p.LinkState = "down"
		}
	}
	if route.Via.IsValid() {
		p.NextHop = route.Via
	} else {
		p.NextHop = p.To.Addr()
	}
	if ask.In != "" && route.Kind != nl.Local {
		r.forwarding(p, ask)
	}
}

func routeText(route nl.Route) string {
	route.Src = netip.Addr{}
	return route.String()
}

// forwarding: a route look-up for IPv6 does not say that nothing is forwarded.
func (r *reader) forwarding(p *explain.Path, ask nl.Asked) {
	key := "ipv4/ip_forward"
	if ask.Dst.Is6() {
		key = "ipv6/conf/all/forwarding"
	}
	value, err := r.sysctl(key)
	if err == nil && value == "0" {
		p.Obstacle, p.Detail = explain.ForwardingOff, dotted(key)+" is 0"
	}
}

func (r *reader) sysctl(key string) (value string, err error) {
	err = r.cfg.inside(func() (err error) {
		value, err = netns.ReadSysctl(key)
		return err
	})
	return value, err
}

func dotted(key string) string { return "net." + strings.ReplaceAll(key, "/", ".") }

// obstacle reads the kernel's refusal.
func (r *reader) obstacle(err error, ask nl.Asked) (explain.Obstacle, string) {
	switch {
	case errors.Is(err, unix.ENETUNREACH):
		return explain.NoRoute, ""
	case errors.Is(err, unix.EXDEV), errors.Is(err, unix.EINVAL) && r.reversed(ask): // EINVAL since Linux 6.14
		return explain.ReversePath, fmt.Sprintf("rp_filter of %s is %s, and the way back to %s does not lead there", ask.In, r.rpFilter(ask.In), ask.Src)
	case errors.Is(err, unix.EHOSTUNREACH):
		if key := r.notForwarding(ask); key != "" {
			return explain.ForwardingOff, dotted(key) + " is 0"
		}
		return explain.RouteRefuses, "unreachable"
	case errors.Is(err, unix.EACCES):
		return explain.RouteRefuses, "prohibit"
	case errors.Is(err, unix.EINVAL) && ask.Src.IsLoopback():
		return explain.RouteRefuses, "packets with a loopback source do not leave by another interface"
	case errors.Is(err, unix.EINVAL):
		return explain.RouteRefuses, "blackhole, or a source that cannot be"
	}
	return explain.NoObstacle, ""
}

// notForwarding names the sysctl that keeps the packet from being forwarded.
func (r *reader) notForwarding(ask nl.Asked) string {
	if ask.In == "" || ask.Dst.Is6() {
		return ""
	}
	for _, key := range []string{"ipv4/ip_forward", "ipv4/conf/" + ask.In + "/forwarding"} {
		if value, err := r.sysctl(key); err == nil && value == "0" {
			return key
		}
	}
	return ""
}

// reversed tells whether the reverse path filter refuses the source: strict, the
// way back must lead to the interface; loose, there must be one.
func (r *reader) reversed(ask nl.Asked) bool {
	if ask.In == "" || ask.Src.Is6() {
		return false
	}
	route, err := r.conn.Ask(nl.Asked{Dst: ask.Src})
	if err != nil {
		return r.rpFilter(ask.In) != "0"
	}
	link, err := r.conn.LinkByIndex(route.Link)
	return err == nil && link.Name != ask.In && r.rpFilter(ask.In) == "1"
}

// rpFilter is the stricter of the interface's setting and everybody's, as the kernel takes it.
func (r *reader) rpFilter(device string) string {
	all, _ := r.sysctl("ipv4/conf/all/rp_filter")
	own, _ := r.sysctl("ipv4/conf/" + device + "/rp_filter")
	return max(all, own)
}

// otherNode: the routes that nodelet makes lead to pods by the address of their node.
func (r *reader) otherNode(p *explain.Path) {
	f := r.facts
	node, ok := f.Snapshot.Nodes.Get(model.Key{Name: p.Node})
	direct := ok && f.Network && f.State != nil && f.State.IsPod(p.To.Addr()) && len(node.InternalIPs) > 0
	if direct && p.NextHop != p.To.Addr() && !slices.Contains(node.InternalIPs, p.NextHop) {
		p.Obstacle, p.Detail = explain.WrongWay, fmt.Sprintf("by %s, and node %s is %v", p.NextHop, p.Node, node.InternalIPs)
	}
}

// hop looks at the neighbour that the packet is handed to.
func (r *reader) hop(p *explain.Path) {
	link, err := r.conn.Link(p.Device)
	if err != nil || link.Loopback {
		return
	}
	h, ok, err := r.conn.Hop(link.Index, p.NextHop)
	if err != nil {
		r.unread("neighbours on %s: %v", p.Device, err)
	}
	if ok && (h.State == "failed" || h.State == "incomplete") {
		p.BadHop = h.State
	}
}

// back asks for the way of answers from a pod here, unless they are translated back to the node.
func (r *reader) back(p *explain.Path, pod Attachment) {
	f := r.facts
	at := slices.Index(f.Verdict.Endpoints, p.To)
	if f.Packet.From == lb.FromNode || at >= 0 && f.Verdict.Masquerade[at] || f.Packet.Src == p.To.Addr() || p.Obstacle != explain.NoObstacle {
		return
	}
	ask := nl.Asked{Dst: f.Packet.Src, Src: p.To.Addr(), In: pod.Link}
	if _, err := r.conn.Ask(ask); err != nil {
		p.Back, p.BackDetail = r.obstacle(err, ask)
	}
}

// link looks at a pod's attachment from both sides.
func (r *reader) link(pod Attachment, addr netip.Addr) *explain.Link {
	l := &explain.Link{Pod: "pod " + pod.Pod.String(), Name: pod.Link}
	link, err := r.conn.Link(pod.Link)
	if err != nil {
		if !errors.Is(err, nl.ErrNotFound) {
			r.unread("the link of %s: %v", l.Pod, err)
		}
		return l
	}
	l.Found = true
	if l.Up, err = r.conn.Running(pod.Link); err != nil {
		r.unread("the link of %s: %v", l.Pod, err)
	}
	h, ok, err := r.conn.Hop(link.Index, addr)
	if err != nil {
		r.unread("the neighbour entry of %s: %v", l.Pod, err)
	}
	if ok {
		l.Neighbour, l.MAC = h.State, h.MAC.String()
	}
	if err := r.insidePod(l, pod, link.MAC.String()); err != nil {
		r.unread("the inside of %s: %v", l.Pod, err)
	}
	return l
}

// insidePod looks at the pod's end: its link address, and whether it has a way out.
func (r *reader) insidePod(l *explain.Link, pod Attachment, hostMAC string) error {
	ns, err := netns.Open(pod.Netns)
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	conn, err := nl.OpenAt(ns.Fd())
	if err != nil {
		return err
	}
	defer conn.Close()
	end, err := conn.Link(pod.IfName)
	if errors.Is(err, nl.ErrNotFound) {
		l.Inside = fmt.Sprintf("the interface %s is gone", pod.IfName)
		return nil
	}
	if err != nil {
		return err
	}
	l.WantMAC = end.MAC.String()
	addrs, err := conn.Addrs(end.Index)
	if err != nil {
		return err
	}
	for _, a := range pod.Addrs {
		if !end.Up {
			break
		}
		if !slices.ContainsFunc(addrs, func(x nl.Addr) bool { return x.Prefix.Addr() == a }) {
			l.Inside = fmt.Sprintf("%s lacks the address %s", pod.IfName, a)
			return nil
		}
		out := netip.AddrFrom4([4]byte{198, 51, 100, 1}) // anybody elsewhere
		if a.Is6() {
			out = netip.MustParseAddr("2001:db8:fffe::1")
		}
		route, err := conn.Ask(nl.Asked{Dst: out})
		if err != nil || !route.Via.IsValid() {
			l.Inside = "there is no default route"
			return nil
		}
		if h, ok, err := conn.Hop(end.Index, route.Via); err == nil && ok && h.MAC.String() != hostMAC && len(h.MAC) > 0 {
			l.Inside = fmt.Sprintf("the neighbour entry for the next hop %s says %s, and the node's end is %s", route.Via, h.MAC, hostMAC)
			return nil
		}
	}
	return nil
}

// sockets tells whether somebody in the pod waits for the packet.
func (r *reader) sockets(p *explain.Path, path string) {
	ns, err := netns.Open(path)
	if err != nil {
		return // noted with the link
	}
	defer func() { _ = ns.Close() }()
	if err := ns.Do(func() error { return r.listening(p) }); err != nil {
		r.unread("sockets of %s: %v", p.Name, err)
	}
}

func (r *reader) socketsHere(p *explain.Path) {
	if err := r.cfg.inside(func() error { return r.listening(p) }); err != nil {
		r.unread("sockets of this node: %v", err)
	}
}

func (r *reader) listening(p *explain.Path) error {
	proto := strings.ToLower(r.facts.Packet.Proto.String())
	if proto == "sctp" || p.To.Port() == 0 {
		return nil
	}
	all, err := netns.Listeners(proto)
	if err != nil {
		return err
	}
	p.Listening = explain.No
	for _, a := range all {
		switch {
		case a.Port() == p.To.Port() && takes(a.Addr(), p.To.Addr()):
			p.Listening = explain.Yes
		case len(p.Sockets) < 5:
			p.Sockets = append(p.Sockets, a.String())
		}
	}
	return nil
}
