package approve

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"net/url"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func node(name string, addresses ...string) corev1.Node {
	n := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	for _, a := range addresses {
		kind := corev1.NodeHostName
		if net.ParseIP(a) != nil {
			kind = corev1.NodeInternalIP
		}
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: kind, Address: a})
	}
	return n
}

// TestJudge: one request that is right, and one change each that makes it wrong.
func TestJudge(t *testing.T) {
	nodes := []corev1.Node{node("n1", "10.0.0.1", "fd00::1", "host1"), node("n2", "10.0.0.2", "host2"), node("thief", "10.0.0.3", "10.0.0.2", "kubernetes.default.svc", "10.96.0.1", "127.0.0.1"), node("kubernetes.default.svc", "10.0.0.4")}
	reserved := Reserved{Names: []string{"kubernetes", "kubernetes.default.svc"}, Addresses: []net.IP{net.ParseIP("10.96.0.1")}}
	for name, c := range map[string]struct {
		change func(r *certificatesv1.CertificateSigningRequest, x *x509.CertificateRequest)
		want   string // part of the reason
	}{
		"right":       {func(*certificatesv1.CertificateSigningRequest, *x509.CertificateRequest) {}, ""},
		"fewer names": {func(_ *certificatesv1.CertificateSigningRequest, x *x509.CertificateRequest) { x.DNSNames = nil }, ""},
		"RSA's usages": {func(r *certificatesv1.CertificateSigningRequest, _ *x509.CertificateRequest) {
			r.Spec.Usages = append(r.Spec.Usages, certificatesv1.UsageKeyEncipherment)
		}, ""},
		"a person asks":    {func(r *certificatesv1.CertificateSigningRequest, _ *x509.CertificateRequest) { r.Spec.Username = "eve" }, "no node"},
		"not in the group": {func(r *certificatesv1.CertificateSigningRequest, _ *x509.CertificateRequest) { r.Spec.Groups = nil }, "no node"},
		"for another node": {func(_ *certificatesv1.CertificateSigningRequest, x *x509.CertificateRequest) {
			x.Subject.CommonName = "system:node:n2"
		}, `asks for a certificate of "system:node:n2"`},
		"another group": {func(_ *certificatesv1.CertificateSigningRequest, x *x509.CertificateRequest) {
			x.Subject.Organization = []string{"system:masters"}
		}, "organization"},
		"client usage": {func(r *certificatesv1.CertificateSigningRequest, _ *x509.CertificateRequest) {
			r.Spec.Usages[1] = certificatesv1.UsageClientAuth
		}, "usages"},
		"unknown node": {func(r *certificatesv1.CertificateSigningRequest, x *x509.CertificateRequest) {
			r.Spec.Username, x.Subject.CommonName = "system:node:n9", "system:node:n9"
		}, "no node n9 yet"},
		"foreign name": {func(_ *certificatesv1.CertificateSigningRequest, x *x509.CertificateRequest) {
			x.DNSNames = []string{"kubernetes.default.svc"}
		}, "a name of the API server"},
		"foreign address": {func(_ *certificatesv1.CertificateSigningRequest, x *x509.CertificateRequest) {
			x.IPAddresses = []net.IP{net.ParseIP("10.0.0.2")}
		}, "no address of node n1"},
		"a mail address": {func(_ *certificatesv1.CertificateSigningRequest, x *x509.CertificateRequest) {
			x.EmailAddresses = []string{"a@b"}
		}, "mail"},
		"a URI": {func(_ *certificatesv1.CertificateSigningRequest, x *x509.CertificateRequest) {
			x.URIs = []*url.URL{{Scheme: "spiffe", Host: "x"}}
		}, "URI"},
		"a stolen address":         {thief(func(x *x509.CertificateRequest) { x.IPAddresses = []net.IP{net.ParseIP("10.0.0.2")} }), "address of node n2 as well"},
		"a name it gave itself":    {thief(func(x *x509.CertificateRequest) { x.DNSNames = []string{"thief.example"} }), "not the name of node thief"},
		"the API server's name":    {thief(func(x *x509.CertificateRequest) { x.DNSNames = []string{"kubernetes.default.svc"} }), "a name of the API server"},
		"in other letters":         {thief(func(x *x509.CertificateRequest) { x.DNSNames = []string{"Kubernetes"} }), "a name of the API server"},
		"the API server's address": {thief(func(x *x509.CertificateRequest) { x.IPAddresses = []net.IP{net.ParseIP("10.96.0.1")} }), "an address of the API server"},
		"a node named like the API server": {func(r *certificatesv1.CertificateSigningRequest, x *x509.CertificateRequest) {
			r.Spec.Username, x.Subject.CommonName = "system:node:kubernetes.default.svc", "system:node:kubernetes.default.svc"
			x.DNSNames, x.IPAddresses = []string{"kubernetes.default.svc"}, nil
		}, "a name of the API server"},
		"loopback": {thief(func(x *x509.CertificateRequest) { x.IPAddresses = []net.IP{net.ParseIP("127.0.0.1")} }), "no address of one node"},
		"no request at all": {func(r *certificatesv1.CertificateSigningRequest, _ *x509.CertificateRequest) {
			r.Spec.Request = []byte("x")
		}, "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &certificatesv1.CertificateSigningRequest{Spec: certificatesv1.CertificateSigningRequestSpec{
				Username: "system:node:n1", Groups: []string{"system:nodes", "system:authenticated"},
				Usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth},
			}}
			x := &x509.CertificateRequest{
				Subject:  pkix.Name{CommonName: "system:node:n1", Organization: []string{"system:nodes"}},
				DNSNames: []string{"n1"}, IPAddresses: []net.IP{net.ParseIP("10.0.0.1"), net.ParseIP("fd00::1")},
			}
			c.change(r, x)
			if r.Spec.Request == nil {
				r.Spec.Request = encode(t, x)
			}
			got := Judge(r, nodes, reserved)
			if c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("said %q, want %q", got, c.want)
			}
		})
	}
}

// thief asks as the node that claims what belongs to others.
func thief(change func(*x509.CertificateRequest)) func(*certificatesv1.CertificateSigningRequest, *x509.CertificateRequest) {
	return func(r *certificatesv1.CertificateSigningRequest, x *x509.CertificateRequest) {
		r.Spec.Username, x.Subject.CommonName = "system:node:thief", "system:node:thief"
		x.DNSNames, x.IPAddresses = []string{"thief"}, nil
		change(x)
	}
}

func encode(t *testing.T, x *x509.CertificateRequest) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, x, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}
