package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"nodelet/cni/linkplan"
)

// State is everything that is remembered of a node's attachments. It is
// meaningful within one boot of the machine: namespaces do not outlive it.
type State struct {
	// Boot is the kernel's boot id.
	Boot string
	// Last holds the address given out last, at most one per family.
	Last []netip.Addr
	// Leases are ordered by veth name.
	Leases []Lease
}

// Lease is one attachment: who holds which addresses.
type Lease struct {
	// Veth is the key: the host end's name, which follows from ContainerID and IfName.
	Veth        string       `json:"veth"`
	Addrs       []netip.Addr `json:"addrs"`
	ContainerID string       `json:"containerID"`
	IfName      string       `json:"ifName"`
	// Netns is the path of the sandbox' namespace; without it the attachment is dead.
	Netns string `json:"netns"`
	// Pod is namespace/name, PodUID its uid, as far as the runtime said so.
	Pod    string `json:"pod"`
	PodUID string `json:"podUID"`
	Ports  []Port `json:"ports,omitempty"`
	// Bandwidth limits the attachment.
	Bandwidth linkplan.Bandwidth `json:"bandwidth,omitzero"`
}

// Port is a host port that leads to the attachment.
type Port struct {
	// Proto is "tcp", "udp" or "sctp".
	Proto string `json:"proto"`
	// HostIP limits the port to one address of the host; not valid means all.
	HostIP   netip.Addr `json:"hostIP"`
	HostPort uint16     `json:"hostPort"`
	PodPort  uint16     `json:"podPort"`
}

// String is "proto/hostIP:port->port".
func (p Port) String() string {
	host := "*"
	if p.HostIP.IsValid() {
		host = p.HostIP.String()
	}
	return fmt.Sprintf("%s/%s/%d->%d", p.Proto, host, p.HostPort, p.PodPort)
}

// String is one line: veth, addresses, pod, ports.
func (l Lease) String() string {
	s := fmt.Sprintf("%s %v %s", l.Veth, l.Addrs, l.Pod)
	for _, p := range l.Ports {
		s += " " + p.String()
	}
	return s
}

// Lease finds a lease by its veth name.
func (s State) Lease(veth string) (Lease, bool) {
	i, ok := s.find(veth)
	if !ok {
		return Lease{}, false
	}
	return s.Leases[i], true
}

func (s State) find(veth string) (int, bool) {
	return slices.BinarySearchFunc(s.Leases, veth, func(l Lease, name string) int { return strings.Compare(l.Veth, name) })
}

// Adopt takes a lease in as it is, in place of one of the same veth name.
func Adopt(s State, l Lease) State { return s.with(l) }

// with returns the state with l put in place of the lease of the same name.
func (s State) with(l Lease) State {
	i, ok := s.find(l.Veth)
	leases := slices.Clone(s.Leases)
	if ok {
		leases[i] = l
	} else {
		leases = slices.Insert(leases, i, l)
	}
	s.Leases = leases
	return s
}

func (l Lease) equal(o Lease) bool {
	return l.Veth == o.Veth && l.ContainerID == o.ContainerID && l.IfName == o.IfName && l.Netns == o.Netns &&
		l.Pod == o.Pod && l.PodUID == o.PodUID && slices.Equal(l.Addrs, o.Addrs) && slices.Equal(l.Ports, o.Ports) && l.Bandwidth == o.Bandwidth
}
