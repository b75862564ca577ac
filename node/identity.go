package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"nodelet/agent/certs"
	"nodelet/internal/kube"
	"nodelet/internal/parts"
	"nodelet/internal/version"
)

// Names of the two pairs below the directory of certificates, as upstream's kubelet has them.
const (
	clientPair  = "kubelet-client"
	servingPair = "kubelet-server"
)

func (c *Config) clientFiles() certs.Files  { return certs.Files{Dir: c.certDir(), Name: clientPair} }
func (c *Config) servingFiles() certs.Files { return certs.Files{Dir: c.certDir(), Name: servingPair} }

func (c *Config) certDir() string { return or(c.Kubelet.CertDir, c.Layout.PKI()) }

// Bootstrap gets this node an identity with the credentials of BootstrapKubeconfig, and writes Kubeconfig,
// unless both are there. It waits until the request is approved, or ctx ends. A kubeconfig with another
// identity is the operator's, and stays.
func Bootstrap(ctx context.Context, c *Config, log *slog.Logger) error {
	if c.BootstrapKubeconfig == "" {
		return nil
	}
	keeper := c.clientKeeper(c.clientFiles(), log)
	known, err := kube.ReadIdentity(c.Kubeconfig)
	switch {
	case err == nil && known.CertFile != keeper.Files.Current():
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	missing := err != nil
	signer, err := kube.Load(c.BootstrapKubeconfig, "nodelet/"+version.Version, kube.Rate{})
	if err != nil {
		return fmt.Errorf("--bootstrap-kubeconfig: %w", err)
	}
	keeper.Signers = []certs.Signer{signer}
	if err := keeper.Get(ctx); err != nil {
		return fmt.Errorf("get an identity from %s: %w", signer.Host(), err)
	}
	if !missing {
		return nil
	}
	return c.writeKubeconfig(keeper.Files)
}

func (c *Config) clientKeeper(files certs.Files, log *slog.Logger) *certs.Keeper {
	return &certs.Keeper{
		What: "client certificate", Files: files, Log: log,
		Want: func() certs.Want { return certs.Client(c.NodeName) },
	}
}

// writeKubeconfig writes the kubeconfig that names the node's pair, and whom the kubelet API lets in:
// the API server's own client certificate is signed by the authority of the cluster.
func (c *Config) writeKubeconfig(files certs.Files) error {
	from, err := kube.ReadIdentity(c.BootstrapKubeconfig)
	if err != nil {
		return err
	}
	if len(from.Authority) > 0 {
		if err := errors.Join(os.MkdirAll(c.Layout.PKI(), 0o700), os.WriteFile(c.Layout.ClientCA(), from.Authority, 0o644)); err != nil {
			return fmt.Errorf("write client CA of the kubelet API: %w", err)
		}
	}
	return kube.WriteKubeconfig(c.Kubeconfig, c.BootstrapKubeconfig, files.Current())
}

// keepIdentity starts what renews the node's certificates: the one for the API server when the
// kubeconfig names a pair by file as upstream's kubelet keeps it, and the serving one when it is ours.
func (n *Node) keepIdentity(g *parts.Group) error {
	if err := n.keepClientCertificate(g); err != nil {
		return err
	}
	if n.cfg.Has(Agent) {
		return n.keepServingCertificate(g)
	}
	return nil
}

func (n *Node) keepClientCertificate(g *parts.Group) error {
	if n.cfg.InCluster || n.cfg.Kubelet.KeepCertificate {
		return nil
	}
	id, err := kube.ReadIdentity(n.cfg.Kubeconfig)
	if err != nil {
		return err
	}
	name, ours := strings.CutSuffix(filepath.Base(id.CertFile), "-current.pem")
	if !ours {
		return nil
	}
	signers := []certs.Signer{n.client}
	if n.cfg.BootstrapKubeconfig != "" {
		// For a node whose certificate ended while the API server was away.
		bootstrap, err := kube.Load(n.cfg.BootstrapKubeconfig, "nodelet/"+version.Version, kube.Rate{})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("--bootstrap-kubeconfig: %w", err)
		}
		if err == nil {
			signers = append(signers, bootstrap)
		}
	}
	keeper := n.cfg.clientKeeper(certs.Files{Dir: filepath.Dir(id.CertFile), Name: name}, n.deps.Log)
	keeper.Signers = signers
	n.metrics.CertificateTTL("client", keeper.Files.TTL)
	g.Go("client certificate", keeper.Run)
	return nil
}

func (n *Node) keepServingCertificate(g *parts.Group) error {
	c := &n.cfg
	files := c.servingFiles()
	if cert, _ := c.servingCertificate(); cert != files.Current() {
		return nil // somebody else's
	}
	want := func() certs.Want { return certs.Serving(c.NodeName, c.NodeIPs) }
	n.metrics.CertificateTTL("server", files.TTL)
	if !c.Kubelet.ServerTLSBootstrap {
		g.Go("serving certificate", func(ctx context.Context) error {
			return certs.KeepSelfSigned(ctx, files, want, n.deps.Log)
		})
		return certs.EnsureSelfSigned(files, want(), time.Now())
	}
	if err := certs.EnsureAny(files, want(), time.Now()); err != nil {
		return err
	}
	keeper := &certs.Keeper{
		What: "serving certificate", Files: files, Log: n.deps.Log,
		Want: want, Signers: []certs.Signer{n.client},
	}
	g.Go("serving certificate", keeper.Run)
	return nil
}

// servingCertificate gives the files of the kubelet API's certificate and key: those of the
// configuration, those that the bundled control plane put into the data directory, or our own pair.
func (c *Config) servingCertificate() (cert, key string) {
	if c.Kubelet.TLSCertFile != "" || c.Kubelet.TLSPrivateKeyFile != "" {
		return c.Kubelet.TLSCertFile, c.Kubelet.TLSPrivateKeyFile
	}
	if _, err := os.Stat(c.Layout.ServingCert()); err == nil {
		return c.Layout.ServingCert(), c.Layout.ServingKey()
	}
	pair := c.servingFiles().Current()
	return pair, pair
}

// clientCA is the file of those who sign the kubelet API's clients; empty when there is none, and only
// bearer tokens are taken.
func (c *Config) clientCA() string {
	if c.Kubelet.ClientCAFile != "" {
		return c.Kubelet.ClientCAFile
	}
	if _, err := os.Stat(c.Layout.ClientCA()); err != nil {
		return ""
	}
	return c.Layout.ClientCA()
}
