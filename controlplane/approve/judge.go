package approve

import (
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/kubernetes/pkg/apis/certificates"
)

const userPrefix = "system:node:"

// Judge says why a request for a serving certificate is not approved; empty
// when it is. Nodes are all nodes of the cluster.
func Judge(r *certificatesv1.CertificateSigningRequest, nodes []corev1.Node) string {
	name, isNode := strings.CutPrefix(r.Spec.Username, userPrefix)
	if !isNode || !slices.Contains(r.Spec.Groups, "system:nodes") {
		return fmt.Sprintf("asked by %q, which is no node", r.Spec.Username)
	}
	request, err := certificates.ParseCSR(r.Spec.Request)
	if err != nil {
		return "it cannot be read: " + err.Error()
	}
	usages := sets.NewString()
	for _, u := range r.Spec.Usages {
		usages.Insert(string(u))
	}
	if err := certificates.ValidateKubeletServingCSR(request, usages); err != nil {
		return err.Error()
	}
	if request.Subject.CommonName != r.Spec.Username {
		return fmt.Sprintf("%q asks for a certificate of %q", r.Spec.Username, request.Subject.CommonName)
	}
	i := slices.IndexFunc(nodes, func(n corev1.Node) bool { return n.Name == name })
	if i < 0 {
		return fmt.Sprintf("there is no node %s yet", name)
	}
	return names(request, &nodes[i], nodes)
}

// names says which name or address of the request is not the node's own.
func names(request *x509.CertificateRequest, node *corev1.Node, all []corev1.Node) string {
	for _, name := range request.DNSNames {
		if name != node.Name && !has(node, name, corev1.NodeHostName, corev1.NodeInternalDNS, corev1.NodeExternalDNS) {
			return fmt.Sprintf("%q is no name of node %s", name, node.Name)
		}
		// A node says itself what it is called: what another one is called as well is not believed.
		if other := owner(all, node, name); other != "" {
			return fmt.Sprintf("%q is a name of node %s as well", name, other)
		}
	}
	for _, ip := range request.IPAddresses {
		if !has(node, ip.String(), corev1.NodeInternalIP, corev1.NodeExternalIP) {
			return fmt.Sprintf("%s is no address of node %s", ip, node.Name)
		}
		if ip.IsLoopback() || ip.IsUnspecified() || ip.IsMulticast() {
			return fmt.Sprintf("%s is no address of one node", ip)
		}
		if other := owner(all, node, ip.String()); other != "" {
			return fmt.Sprintf("%s is an address of node %s as well", ip, other)
		}
	}
	return ""
}

func has(node *corev1.Node, value string, kinds ...corev1.NodeAddressType) bool {
	return slices.ContainsFunc(node.Status.Addresses, func(a corev1.NodeAddress) bool {
		return slices.Contains(kinds, a.Type) && same(a.Address, value)
	})
}

// same compares addresses by value and names by letters.
func same(a, b string) bool {
	if x, y := net.ParseIP(a), net.ParseIP(b); x != nil && y != nil {
		return x.Equal(y)
	}
	return a == b
}

// owner is another node that has that name or address.
func owner(all []corev1.Node, self *corev1.Node, value string) string {
	for i := range all {
		n := &all[i]
		if n.Name == self.Name {
			continue
		}
		if same(n.Name, value) || slices.ContainsFunc(n.Status.Addresses, func(a corev1.NodeAddress) bool { return same(a.Address, value) }) {
			return n.Name
		}
	}
	return ""
}
