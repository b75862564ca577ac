package model

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// AnnotationPrefix marks the annotations of this project. No others are kept of
// objects that are watched cluster-wide.
const AnnotationPrefix = "nodelet.dev/"

// Namespace is what DNS and NetworkPolicy need of a v1.Namespace.
type Namespace struct {
	Name            string
	ResourceVersion string
	Labels          map[string]string
	// Annotations are those that begin with AnnotationPrefix.
	Annotations map[string]string
}

// Key is the namespace's key in the store.
func (n *Namespace) Key() Key { return Key{Name: n.Name} }

// String is one line: name, then labels in their order.
func (n *Namespace) String() string {
	var b strings.Builder
	b.WriteString(n.Name)
	for _, k := range slices.Sorted(maps.Keys(n.Labels)) {
		fmt.Fprintf(&b, " %s=%s", k, n.Labels[k])
	}
	return b.String()
}

// PodAddr is the addresses of one pod anywhere in the cluster. Pods that are
// over or terminating, or have no address yet, are not kept.
type PodAddr struct {
	Key             Key
	ResourceVersion string
	IPs             []netip.Addr
}

// String is one line: key and addresses.
func (p *PodAddr) String() string { return fmt.Sprintf("%s %v", p.Key, p.IPs) }
