package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"nodelet/internal/ipvs"
	"nodelet/internal/model"
	"nodelet/internal/nl"
)

// kubeProxyLink has the addresses that kube-proxy's mode ipvs balances.
const kubeProxyLink = "kube-ipvs0"

// kubeProxySets are kube-proxy's ipsets, by name; those of IPv6 have KUBE-6- in place of KUBE-.
// Others have sets that begin alike: kube-router's KUBE-SRC-*.
var kubeProxySets = []string{
	"KUBE-LOOP-BACK", "KUBE-CLUSTER-IP", "KUBE-EXTERNAL-IP", "KUBE-EXTERNAL-IP-LOCAL", "KUBE-LOAD-BALANCER",
	"KUBE-LOAD-BALANCER-LOCAL", "KUBE-LOAD-BALANCER-FW", "KUBE-LOAD-BALANCER-SOURCE-IP", "KUBE-LOAD-BALANCER-SOURCE-CIDR",
	"KUBE-NODE-PORT-TCP", "KUBE-NODE-PORT-LOCAL-TCP", "KUBE-NODE-PORT-UDP", "KUBE-NODE-PORT-LOCAL-UDP",
	"KUBE-NODE-PORT-SCTP-HASH", "KUBE-NODE-PORT-LOCAL-SCTP-HASH", "KUBE-HEALTH-CHECK-NODE-PORT", "KUBE-IPVS-IPS",
}

// ipvsLeft is what kube-proxy's mode ipvs has in the kernel besides its iptables chains.
type ipvsLeft struct {
	// link is the index of kube-ipvs0; 0 when there is none.
	link    int
	addrs   []netip.Addr
	sets    []nl.IPSet
	servers []ipvs.VirtualServer
}

// findIPVS looks for it. A virtual server is kube-proxy's when its address is on kube-ipvs0, or its
// port in kube-proxy's set of node ports; all others are somebody else's.
func findIPVS(netns int) (left ipvsLeft, err error) {
	if err := left.findLink(netns); err != nil {
		return left, err
	}
	sets, err := nl.IPSets(netns)
	if err != nil {
		return left, err
	}
	for _, s := range sets {
		if slices.Contains(kubeProxySets, strings.Replace(s.Name, "KUBE-6-", "KUBE-", 1)) {
			left.sets = append(left.sets, s)
		}
	}
	conn, err := ipvs.Open(netns)
	if errors.Is(err, errors.ErrUnsupported) {
		return left, nil
	}
	if err != nil {
		return left, err
	}
	defer conn.Close()
	all, err := conn.List()
	if err != nil {
		return left, err
	}
	for _, s := range all {
		if slices.Contains(left.addrs, s.Addr) || left.nodePort(s.VirtualServer) {
			left.servers = append(left.servers, s.VirtualServer)
		}
	}
	return left, nil
}

func (l *ipvsLeft) findLink(netns int) error {
	conn, err := nl.Open()
	if netns > 0 {
		conn, err = nl.OpenAt(netns)
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	link, err := conn.Link(kubeProxyLink)
	if errors.Is(err, nl.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	l.link = link.Index
	addrs, err := conn.Addrs(link.Index)
	for _, a := range addrs {
		if !a.Prefix.Addr().IsLinkLocalUnicast() {
			l.addrs = append(l.addrs, a.Prefix.Addr())
		}
	}
	return err
}

// nodePort tells whether one of kube-proxy's sets has the virtual server as a node port.
func (l *ipvsLeft) nodePort(v ipvs.VirtualServer) bool {
	name := "KUBE-"
	if v.Addr.Is6() {
		name += "6-"
	}
	name += "NODE-PORT-" + model.Protocol(v.Proto).String()
	return slices.ContainsFunc(l.sets, func(s nl.IPSet) bool { return s.Name == name && slices.Contains(s.Ports, v.Port) })
}

// list names it for people.
func (l *ipvsLeft) list() (found []string) {
	if l.link > 0 {
		found = append(found, fmt.Sprintf("kube-proxy's link %s with %d addresses", kubeProxyLink, len(l.addrs)))
	}
	if n := len(l.servers); n > 0 {
		found = append(found, fmt.Sprintf("kube-proxy's %d virtual servers of IPVS", n))
	}
	if n := len(l.sets); n > 0 {
		found = append(found, fmt.Sprintf("kube-proxy's %d ipsets KUBE-*", n))
	}
	return found
}

// remove removes it, the sets only when no rule names them any more.
func (l *ipvsLeft) remove(netns int) error {
	var errs []error
	if len(l.servers) > 0 {
		conn, err := ipvs.Open(netns)
		if err != nil {
			return err
		}
		defer conn.Close()
		for _, s := range l.servers {
			errs = append(errs, conn.Delete(s))
		}
	}
	if l.link > 0 {
		conn, err := nl.Open()
		if netns > 0 {
			conn, err = nl.OpenAt(netns)
		}
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		defer conn.Close()
		errs = append(errs, conn.DeleteLink(l.link))
	}
	for _, s := range l.sets {
		errs = append(errs, nl.DeleteIPSet(netns, s.Name))
	}
	return errors.Join(errs...)
}
