package model

import (
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Node is what proxy, CNI and DNS need of a v1.Node.
type Node struct {
	Name            string
	UID             UID
	ResourceVersion string
	Labels          map[string]string
	Taints          []corev1.Taint
	// InternalIPs and ExternalIPs in the order of status.addresses.
	InternalIPs []netip.Addr
	ExternalIPs []netip.Addr
	// PodCIDRs holds at most one per family.
	PodCIDRs []netip.Prefix
	Ready    bool
	// Deleting: deletionTimestamp is set, or the node carries a taint that takes it out of load balancers.
	Deleting bool
}

// Zone is the label topology.kubernetes.io/zone.
func (n *Node) Zone() string { return n.Labels["topology.kubernetes.io/zone"] }

// String is one line: name, addresses, pod CIDRs.
func (n *Node) String() string {
	var b strings.Builder
	b.WriteString(n.Name)
	for _, ip := range n.InternalIPs {
		b.WriteString(" " + ip.String())
	}
	fmt.Fprintf(&b, " pods %v ready=%t", n.PodCIDRs, n.Ready)
	return b.String()
}
