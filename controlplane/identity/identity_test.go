package identity

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"nodelet/controlplane/pki"
)

const server = "https://127.0.0.1:6443"

func testSigner(t *testing.T) Signer {
	t.Helper()
	now, log := time.Now(), slog.New(slog.DiscardHandler)
	c, err := pki.Ensure(pki.Config{Dir: filepath.Join(t.TempDir(), "pki"), ClusterDomain: "cluster.local", Now: now, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return Signer{CA: c.CA, Now: now, Log: log}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestAdminIsKeptAndReplaced(t *testing.T) {
	s := testSigner(t)
	path := filepath.Join(t.TempDir(), "admin.kubeconfig")
	ensure := func(s Signer, server string) string {
		t.Helper()
		if err := s.Admin(path, server); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v %v, want 0600", info.Mode(), err)
		}
		return read(t, path)
	}
	first := ensure(s, server)
	config, err := clientcmd.RESTConfigFromKubeConfig([]byte(first))
	if err != nil {
		t.Fatal(err)
	}
	if config.Host != server {
		t.Errorf("server %s", config.Host)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if ensure(s, server) != first {
		t.Error("a second start changed the kubeconfig")
	}
	if ensure(s, "https://127.0.0.1:7443") == first {
		t.Error("another port did not change the kubeconfig")
	}
	moved := ensure(s, server)
	if ensure(testSigner(t), server) == moved {
		t.Error("another authority did not change the kubeconfig")
	}
	if err := os.WriteFile(path, []byte("{half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := clientcmd.RESTConfigFromKubeConfig([]byte(ensure(s, server))); err != nil {
		t.Errorf("a damaged file was kept: %v", err)
	}
}

func TestNode(t *testing.T) {
	s := testSigner(t)
	cfg := NodeConfig{Dir: t.TempDir(), Name: "n1", Server: server, Addresses: []netip.Addr{netip.MustParseAddr("10.77.0.2")}}
	if err := s.Node(cfg); err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.LoadFromFile(filepath.Join(cfg.Dir, "node.kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	if config.AuthInfos["system:node:n1"] == nil {
		t.Errorf("users %v, want system:node:n1", config.AuthInfos)
	}
	files := []string{"node.kubeconfig", "pki/kubelet-server.crt", "pki/kubelet-server.key", "pki/kubelet-client-ca.crt"}
	var before []string
	for _, f := range files {
		before = append(before, read(t, filepath.Join(cfg.Dir, f)))
	}
	if before[3] != string(s.CA.PEM()) {
		t.Error("kubelet-client-ca.crt is not the cluster's authority")
	}
	if err := s.Node(cfg); err != nil {
		t.Fatal(err)
	}
	for i, f := range files {
		if read(t, filepath.Join(cfg.Dir, f)) != before[i] {
			t.Errorf("a second start changed %s", f)
		}
	}
	cfg.Addresses[0] = netip.MustParseAddr("10.77.0.3")
	if err := s.Node(cfg); err != nil {
		t.Fatal(err)
	}
	if read(t, filepath.Join(cfg.Dir, files[1])) == before[1] {
		t.Error("another address did not change the serving certificate")
	}
}

func TestNodeRefuses(t *testing.T) {
	s := testSigner(t)
	for want, cfg := range map[string]NodeConfig{
		"node name":    {Dir: t.TempDir(), Name: "../evil", Server: server, Addresses: []netip.Addr{netip.IPv6Loopback()}},
		"at least one": {Dir: t.TempDir(), Name: "n1", Server: server},
	} {
		if err := s.Node(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want one about %q", cfg, err, want)
		}
		if _, err := os.Stat(filepath.Join(cfg.Dir, "pki")); err == nil {
			t.Errorf("%+v: something was written", cfg)
		}
	}
}
