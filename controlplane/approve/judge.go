package approve

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
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

// Reserved are the names and addresses of the API server's own certificate,
// which the same authority has signed: whoever had one for them as well could
// stand in for the API server.
type Reserved struct {
	Names     []string
	Addresses []net.IP
}

// ReservedBy reads them from the API server's certificate, in PEM.
func ReservedBy(certificate []byte) (Reserved, error) {
	block, _ := pem.Decode(certificate)
	if block == nil {
		return Reserved{}, errors.New("read the API server's certificate: it is no PEM")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return Reserved{}, fmt.Errorf("read the API server's certificate: %w", err)
	}
	return Reserved{Names: c.DNSNames, Addresses: c.IPAddresses}, nil
}

// Judge says why a request for a serving certificate is not approved; empty
// when it is. Nodes are all nodes of the cluster.
func Judge(r *certificatesv1.CertificateSigningRequest, nodes []corev1.Node, reserved Reserved) string {
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
	if why := reserved.claimed(request); why != "" {
		return why
	}
	return names(request, &nodes[i], nodes)
}

// claimed says which name or address of the request is the API server's.
func (r Reserved) claimed(request *x509.CertificateRequest) string {
	for _, name := range request.DNSNames {
		if slices.ContainsFunc(r.Names, func(n string) bool { return strings.EqualFold(n, name) }) {
			return fmt.Sprintf("%q is a name of the API server", name)
		}
	}
	for _, ip := range request.IPAddresses {
		if slices.ContainsFunc(r.Addresses, ip.Equal) {
			return fmt.Sprintf("%s is an address of the API server", ip)
		}
	}
	return ""
}

// names says which name or address of the request is not the node's own. What
// it is called beside its name, a node says itself, so that is not believed;
// an address only as long as no other node claims it.
func names(request *x509.CertificateRequest, node *corev1.Node, all []corev1.Node) string {
	for _, name := range request.DNSNames {
		if name != node.Name {
			return fmt.Sprintf("%q is not the name of node %s", name, node.Name)
		}
	}
	for _, ip := range request.IPAddresses {
		if !has(node, ip) {
			return fmt.Sprintf("%s is no address of node %s", ip, node.Name)
		}
		if ip.IsLoopback() || ip.IsUnspecified() || ip.IsMulticast() {
			return fmt.Sprintf("%s is no address of one node", ip)
		}
		if other := owner(all, node, ip); other != "" {
			return fmt.Sprintf("%s is an address of node %s as well", ip, other)
		}
	}
	return ""
}

func has(node *corev1.Node, ip net.IP) bool {
	return slices.ContainsFunc(node.Status.Addresses, func(a corev1.NodeAddress) bool {
		return (a.Type == corev1.NodeInternalIP || a.Type == corev1.NodeExternalIP) && ip.Equal(net.ParseIP(a.Address))
	})
}

// owner is another node that has that address.
func owner(all []corev1.Node, self *corev1.Node, ip net.IP) string {
	for i := range all {
		if n := &all[i]; n.Name != self.Name && has(n, ip) {
			return n.Name
		}
	}
	return ""
}
