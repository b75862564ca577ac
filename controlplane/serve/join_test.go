package serve

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"nodelet/controlplane/addons"
	"nodelet/controlplane/identity"
)

// checkJoin does what a node on another machine does that has nothing but a token.
func checkJoin(t *testing.T, cfg Config, admin kubernetes.Interface) {
	ctx := t.Context()
	full := restConfig(t, cfg.adminKubeconfig())
	kubeconfig, err := identity.Join(ctx, admin, identity.JoinConfig{
		Server: full.Host, Authority: full.CAData, Group: addons.GroupJoining, TTL: time.Hour,
	}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	joining, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	token, err := kubernetes.NewForConfig(joining)
	if err != nil {
		t.Fatal(err)
	}
	name := pkix.Name{CommonName: "system:node:joined", Organization: []string{"system:nodes"}}
	key, cert := requestCertificate(t, token, "client", certificatesv1.KubeAPIServerClientKubeletSignerName,
		&x509.CertificateRequest{Subject: name}, certificatesv1.UsageClientAuth)
	if _, err := token.CoreV1().Nodes().List(ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("a token lists nodes: %v", err)
	}
	own := &rest.Config{Host: full.Host, TLSClientConfig: rest.TLSClientConfig{CAData: full.CAData, CertData: cert, KeyData: key}}
	node, err := kubernetes.NewForConfig(own)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := node.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "joined"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	address := `{"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.7"}]}}`
	if _, err := node.CoreV1().Nodes().PatchStatus(ctx, "joined", []byte(address)); err != nil {
		t.Fatal(err)
	}
	_, cert = requestCertificate(t, node, "serving", certificatesv1.KubeletServingSignerName,
		&x509.CertificateRequest{Subject: name, DNSNames: []string{"joined"}, IPAddresses: []net.IP{net.ParseIP("192.0.2.7")}},
		certificatesv1.UsageServerAuth)
	block, _ := pem.Decode(cert)
	serving, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(full.CAData)
	if _, err := serving.Verify(x509.VerifyOptions{Roots: roots, DNSName: "192.0.2.7"}); err != nil {
		t.Error(err)
	}
	if err := admin.CoreV1().Nodes().Delete(ctx, "joined", metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
}

// requestCertificate asks and waits; nobody but the control plane approves.
func requestCertificate(t *testing.T, c kubernetes.Interface, name, signer string, x *x509.CertificateRequest, usage certificatesv1.KeyUsage) (key, cert []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, x, private)
	if err != nil {
		t.Fatal(err)
	}
	requests := c.CertificatesV1().CertificateSigningRequests()
	_, err = requests.Create(t.Context(), &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			SignerName: signer, Usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, usage},
			Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "certificate "+name, func() error {
		r, err := requests.Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if cert = r.Status.Certificate; len(cert) == 0 {
			return fmt.Errorf("conditions %v", r.Status.Conditions)
		}
		return nil
	})
	if der, err = x509.MarshalECPrivateKey(private); err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), cert
}
