package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"nodelet/controlplane/durable"
	"nodelet/controlplane/pki"
)

// clusterName is what kubeconfigs call the cluster.
const clusterName = "nodelet"

// Signer hands out certificates for kubeconfigs.
type Signer struct {
	CA  *pki.Authority
	Now time.Time
	Log *slog.Logger
}

// Admin writes the kubeconfig of the cluster's administrator.
func (s Signer) Admin(path, server string) error {
	return s.ensure(path, server, pki.Request{
		CommonName: "nodelet-admin", Organizations: []string{pki.GroupMasters}, Client: true,
	})
}

// ensure keeps the kubeconfig under path if its certificate fits the request
// and it names this server and authority, else writes a new one with the
// certificate inside.
func (s Signer) ensure(path, server string, r pki.Request) error {
	old, err := readKubeconfig(path)
	switch {
	case err == nil:
		why, ok := s.fits(old, server, r)
		if ok {
			return os.Chmod(path, durable.Secret)
		}
		s.Log.Info("replacing kubeconfig", "file", path, "why", why)
	case !errors.Is(err, fs.ErrNotExist):
		s.Log.Info("replacing kubeconfig", "file", path, "why", err)
	}
	pair, err := s.CA.Issue(r, s.Now)
	if err != nil {
		return err
	}
	c := newKubeconfig(server, r.CommonName)
	c.Clusters[clusterName].CertificateAuthorityData = s.CA.PEM()
	c.AuthInfos[r.CommonName] = &clientcmdapi.AuthInfo{
		ClientCertificateData: pair.Cert, ClientKeyData: pair.Key,
	}
	return write(path, c)
}

func (s Signer) fits(c *clientcmdapi.Config, server string, r pki.Request) (string, bool) {
	cluster, user := c.Clusters[clusterName], c.AuthInfos[r.CommonName]
	if cluster == nil || user == nil {
		return "written by somebody else", false
	}
	if cluster.Server != server {
		return "server changed", false
	}
	if string(cluster.CertificateAuthorityData) != string(s.CA.PEM()) {
		return "authority changed", false
	}
	pair := pki.Pair{Cert: user.ClientCertificateData, Key: user.ClientKeyData}
	ok, why := s.CA.Fits(pair, r, s.Now)
	return why, ok
}

// Files names a client's certificate files.
type Files struct {
	CA, Cert, Key string
}

// ByReference writes a kubeconfig that names certificate files instead of
// holding their content, so that its user sees renewed ones without a restart.
func ByReference(path, server, user string, f Files) error {
	c := newKubeconfig(server, user)
	c.Clusters[clusterName].CertificateAuthority = f.CA
	c.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificate: f.Cert, ClientKey: f.Key}
	return write(path, c)
}

func newKubeconfig(server, user string) *clientcmdapi.Config {
	c := clientcmdapi.NewConfig()
	c.Clusters[clusterName] = &clientcmdapi.Cluster{Server: server}
	c.Contexts[clusterName] = &clientcmdapi.Context{Cluster: clusterName, AuthInfo: user}
	c.CurrentContext = clusterName
	return c
}

func write(path string, c *clientcmdapi.Config) error {
	data, err := clientcmd.Write(*c)
	if err != nil {
		return fmt.Errorf("encode kubeconfig %s: %w", path, err)
	}
	_, err = durable.WriteIfChanged(path, data, durable.Secret)
	return err
}

func readKubeconfig(path string) (*clientcmdapi.Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return clientcmd.Load(data)
}
