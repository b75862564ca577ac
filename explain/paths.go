package explain

import (
	"fmt"
	"strings"

	"nodelet/proxy/eval"
	"nodelet/proxy/lb"
)

// sourceLink is the link of a pod that sends.
func (f *Facts) sourceLink() *Finding {
	if f.Source == nil {
		return nil
	}
	return f.link(f.Source, "sends")
}

// link is what can be wrong with a pod's attachment; does is "sends" or "answers".
func (f *Facts) link(l *Link, does string) *Finding {
	switch {
	case !l.Found:
		return broken(fmt.Sprintf("the link of %s is gone: it %s nothing", l.Pod, does), "delete the pod: its sandbox cannot be repaired")
	case !l.Up:
		return broken(fmt.Sprintf("the link %s of %s is down: it %s nothing", l.Name, l.Pod, does),
			fmt.Sprintf("ip link set %s up (and eth0 in the pod); nodelet repairs its own end", l.Name))
	case l.Inside != "":
		return broken(fmt.Sprintf("inside %s: %s", l.Pod, l.Inside), "somebody changed the pod's own network: delete the pod")
	case l.Neighbour == "" && l.WantMAC != "":
		return note(fmt.Sprintf("the permanent neighbour entry for %s on %s is missing: the node has to ask first", l.Pod, l.Name), "nodelet writes it again within 30 s")
	case l.WantMAC != "" && l.MAC != "" && l.MAC != l.WantMAC:
		return broken(fmt.Sprintf("the neighbour entry for %s on %s says %s, and the pod's link address is %s", l.Pod, l.Name, l.MAC, l.WantMAC),
			"nodelet writes it again within 30 s; if it comes back, somebody else changes it")
	}
	return nil
}

// path is what is wrong on the way to one address.
func (f *Facts) path(p *Path) []*Finding {
	name := p.To.Addr().String()
	if p.Name != "" {
		name = p.Name + " (" + name + ")"
	}
	var out []*Finding
	if p.Pod != nil { // a link that is down takes its route along
		out = append(out, f.link(p.Pod, "answers"))
	}
	out = append(out, f.obstacle(p.Obstacle, p.Detail, "to "+name))
	switch {
	case p.LinkState == "down":
		out = append(out, broken(fmt.Sprintf("the interface %s on the way to %s is down", p.Device, name), fmt.Sprintf("ip link set %s up", p.Device)))
	case p.BadHop != "":
		out = append(out, broken(fmt.Sprintf("the next hop %s on %s does not answer (neighbour %s)", p.NextHop, p.Device, p.BadHop), "see whether that machine is up, and on the same network"))
	}
	out = append(out, f.obstacle(p.Back, p.BackDetail, "for answers of "+name))
	if p.Listening == No {
		out = append(out, f.deaf(p, name))
	}
	if !p.Here && p.Node != "" {
		out = append(out, note(fmt.Sprintf("%s is on node %s: what happens there is not visible from here", name, p.Node), ""))
	}
	return out
}

func (f *Facts) obstacle(o Obstacle, detail, way string) *Finding {
	switch o {
	case NoRoute:
		return broken(fmt.Sprintf("this node has no route %s", way), "'ip route' shows the routes; nodelet writes those to its pods and to other nodes again within 30 s")
	case RouteRefuses:
		return broken(fmt.Sprintf("the route %s refuses packets: %s", way, detail), "a route of kind unreachable stands for pods that are gone; another one is somebody else's")
	case WrongWay:
		return broken(fmt.Sprintf("the route %s leads elsewhere: %s", way, detail), "'ip route' shows who made it; nodelet writes its own again within 30 s")
	case ForwardingOff:
		return broken(fmt.Sprintf("this node does not forward packets (%s), so there is no way %s", detail, way), "sysctl -w "+sysctlName(detail))
	case ReversePath:
		return broken(fmt.Sprintf("the reverse path filter drops packets %s: %s", way, detail),
			"the route back to the source must lead to the interface the packet comes in by; or set rp_filter to 2 (loose)")
	}
	return nil
}

// sysctlName turns "net.ipv4.ip_forward is 0" into "net.ipv4.ip_forward=1".
func sysctlName(detail string) string {
	name, _, _ := strings.Cut(detail, " ")
	return name + "=1"
}

// deaf: the packet arrives, and no socket waits for it.
func (f *Facts) deaf(p *Path, name string) *Finding {
	cause := fmt.Sprintf("nothing listens on port %d/%s of %s", p.To.Port(), f.Packet.Proto, name)
	if len(p.Sockets) > 0 {
		cause += ", which has sockets on " + strings.Join(p.Sockets, ", ")
	}
	if f.Verdict.Outcome == eval.DNAT {
		return broken(cause, fmt.Sprintf("correct spec.ports[].targetPort of Service %s, or the program in the pod (one that listens on 127.0.0.1 is not reached)", f.Verdict.Target.Service))
	}
	return broken(cause, "start the program, or correct the port (one that listens on 127.0.0.1 is not reached)")
}

// nobodyListens: the packet ends on this node, and no process waits for it.
func (f *Facts) nobodyListens() *Finding {
	taken := len(f.Listeners) > 0 && f.Verdict.Outcome != eval.NoService
	if taken && f.Verdict.Target.Kind == lb.NodePort {
		return note(fmt.Sprintf("a process of this node listens on port %d too (%s): it gets no packets from elsewhere, the Service does", f.Packet.Dst.Port(), f.Listeners[0]),
			"move the process or the node port")
	}
	return nil
}
