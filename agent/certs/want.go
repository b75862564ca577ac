package certs

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
)

// NodesGroup is the group of all nodes, NodePrefix what precedes the name of a node in that of its user.
const (
	NodesGroup = "system:nodes"
	NodePrefix = "system:node:"
)

// Want is a certificate that a node needs.
type Want struct {
	// Signer is who may sign it, e.g. certificatesv1.KubeAPIServerClientKubeletSignerName.
	Signer        string
	CommonName    string
	Organizations []string
	DNSNames      []string
	Addresses     []netip.Addr
}

// Client is what a node of that name shows to the API server.
func Client(node string) Want {
	return Want{
		Signer:     certificatesv1.KubeAPIServerClientKubeletSignerName,
		CommonName: NodePrefix + node, Organizations: []string{NodesGroup},
	}
}

// Serving is what the kubelet API of a node shows.
func Serving(node string, addresses []netip.Addr) Want {
	return Want{
		Signer:     certificatesv1.KubeletServingSignerName,
		CommonName: NodePrefix + node, Organizations: []string{NodesGroup},
		DNSNames: []string{node}, Addresses: addresses,
	}
}

// Usages are those that the signer signs for an elliptic key.
func (w Want) Usages() []certificatesv1.KeyUsage {
	if w.Signer == certificatesv1.KubeletServingSignerName {
		return []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth}
	}
	return []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth}
}

// Unfit says why a certificate is not what is wanted at that time; empty when it is. More names than
// wanted are fine: a signer may add some.
func (w Want) Unfit(cert *x509.Certificate, now time.Time) string {
	switch {
	case cert.Subject.CommonName != w.CommonName:
		return fmt.Sprintf("it is for %q", cert.Subject.CommonName)
	case now.Before(cert.NotBefore):
		return "it is not valid before " + cert.NotBefore.Format(time.RFC3339) + " (is the clock of this machine right?)"
	case !now.Before(cert.NotAfter):
		return "it ended at " + cert.NotAfter.Format(time.RFC3339)
	}
	for _, organization := range w.Organizations {
		if !slices.Contains(cert.Subject.Organization, organization) {
			return "it lacks the group " + organization
		}
	}
	for _, name := range w.DNSNames {
		if !slices.Contains(cert.DNSNames, name) {
			return "it lacks the name " + name
		}
	}
	for _, address := range w.Addresses {
		if !slices.ContainsFunc(cert.IPAddresses, net.IP(address.AsSlice()).Equal) {
			return "it lacks the address " + address.String()
		}
	}
	return ""
}

// RenewAt is when a new certificate is asked for: after 70 to 90 % of the time of the old one, as
// upstream does it. Where in between follows from the serial number, so that nodes differ and that a
// daemon that is restarted says the same.
func RenewAt(cert *x509.Certificate) time.Time {
	sum := sha256.Sum256(cert.SerialNumber.Bytes())
	part := 0.7 + 0.2*float64(binary.BigEndian.Uint32(sum[:]))/(1<<32)
	return cert.NotBefore.Add(time.Duration(part * float64(cert.NotAfter.Sub(cert.NotBefore))))
}

// requestName names a request: the same for the same key and wish.
func (w Want) requestName(public []byte) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q %q %v", public, w.CommonName, w.Organizations, w.DNSNames, w.Addresses)
	prefix := "nodelet-csr-"
	if w.Signer == certificatesv1.KubeAPIServerClientKubeletSignerName {
		prefix = "node-csr-" // upstream's, which people look for
	}
	return prefix + hex.EncodeToString(h.Sum(nil)[:16])
}
