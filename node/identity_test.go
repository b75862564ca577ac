package node

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"

	"nodelet/internal/kube"
)

// signingServer is an API server that signs every request at once.
func signingServer(t *testing.T) (server *httptest.Server, asked *int) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	if err := certificatesv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	asked = new(int)
	server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked++
		body, _ := io.ReadAll(r.Body)
		object, _, err := protobuf.NewSerializer(scheme, scheme).Decode(body, nil, nil)
		request, ok := object.(*certificatesv1.CertificateSigningRequest)
		if err != nil || !ok || r.Header.Get("Authorization") != "Bearer abcdef.0123456789abcdef" {
			http.Error(w, "what is this?", http.StatusBadRequest)
			return
		}
		block, _ := pem.Decode(request.Spec.Request)
		x, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil {
			t.Error(err)
		}
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: big.NewInt(int64(*asked)), Subject: x.Subject,
			NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		}, &x509.Certificate{Subject: pkix.Name{CommonName: "cluster"}}, x.PublicKey, key)
		if err != nil {
			t.Error(err)
		}
		request.Status.Certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		request.TypeMeta.APIVersion, request.TypeMeta.Kind = "certificates.k8s.io/v1", "CertificateSigningRequest"
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(request)
	}))
	t.Cleanup(server.Close)
	return server, asked
}

func bootstrapConfig(t *testing.T, server *httptest.Server) *Config {
	dir := t.TempDir()
	c := Defaults()
	c.NodeName = "node-1"
	c.Layout = Layout{Data: filepath.Join(dir, "data"), Run: filepath.Join(dir, "run")}
	c.Kubeconfig = c.Layout.NodeKubeconfig()
	c.BootstrapKubeconfig = filepath.Join(dir, "bootstrap")
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), ca, 0o600); err != nil {
		t.Fatal(err)
	}
	text := `{"apiVersion":"v1","kind":"Config","current-context":"c","contexts":[{"name":"c","context":{"cluster":"x","user":"u"}}],
"clusters":[{"name":"x","cluster":{"server":"` + server.URL + `","certificate-authority":"ca.crt"}}],
"users":[{"name":"u","user":{"token":"abcdef.0123456789abcdef"}}]}`
	if err := os.WriteFile(c.BootstrapKubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return &c
}

func bootstrap(t *testing.T, c *Config) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := Bootstrap(ctx, c, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
}

func TestBootstrapGetsAnIdentityOnce(t *testing.T) {
	server, asked := signingServer(t)
	c := bootstrapConfig(t, server)
	for range 2 {
		bootstrap(t, c)
	}
	if *asked != 1 {
		t.Errorf("asked %d times", *asked)
	}
	id, err := kube.ReadIdentity(c.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	if id.CertFile != filepath.Join(c.Layout.Data, "pki/kubelet-client-current.pem") || len(id.Authority) == 0 {
		t.Errorf("identity %+v", id)
	}
	if got := c.clientCA(); got != c.Layout.ClientCA() {
		t.Errorf("clients of the kubelet API are checked against %q", got)
	}
	// Its kubeconfig was lost, and so is made again; its certificate ended, and so is asked for again.
	if err := os.Remove(c.Kubeconfig); err != nil {
		t.Fatal(err)
	}
	bootstrap(t, c)
	if _, err := kube.ReadIdentity(c.Kubeconfig); err != nil || *asked != 1 {
		t.Errorf("asked %d times: %v", *asked, err)
	}
	if err := os.Remove(c.clientFiles().Current()); err != nil {
		t.Fatal(err)
	}
	bootstrap(t, c)
	if *asked != 2 {
		t.Errorf("asked %d times", *asked)
	}
}

func TestBootstrapLeavesTheOperatorsIdentity(t *testing.T) {
	server, asked := signingServer(t)
	c := bootstrapConfig(t, server)
	own, err := os.ReadFile(c.BootstrapKubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(c.Layout.Data, 0o700); err != nil {
		t.Fatal(err)
	}
	own = []byte(strings.ReplaceAll(string(own), `"ca.crt"`, `"`+filepath.Join(filepath.Dir(c.BootstrapKubeconfig), "ca.crt")+`"`))
	if err := os.WriteFile(c.Kubeconfig, own, 0o600); err != nil {
		t.Fatal(err)
	}
	bootstrap(t, c)
	if now, err := os.ReadFile(c.Kubeconfig); err != nil || string(now) != string(own) || *asked != 0 {
		t.Errorf("asked %d times, kubeconfig now %s, %v", *asked, now, err)
	}
}

func TestBootstrapWithoutCredentials(t *testing.T) {
	c := Defaults()
	c.BootstrapKubeconfig = filepath.Join(t.TempDir(), "missing")
	c.Layout.Data = t.TempDir()
	c.Kubeconfig = c.Layout.NodeKubeconfig()
	err := Bootstrap(t.Context(), &c, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "--bootstrap-kubeconfig") || !strings.Contains(err.Error(), "missing") {
		t.Errorf("got %v", err)
	}
}
