package kube

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Identity is what a kubeconfig says of its user and its server, as far as it is in files or in the kubeconfig.
type Identity struct {
	// CertFile is the file of the client certificate; empty when the kubeconfig holds it or there is none.
	CertFile string
	// Authority is what the API server's certificate is checked against, in PEM; empty for that of the machine.
	Authority []byte
}

// ReadIdentity reads the current context of a kubeconfig; fs.ErrNotExist when there is no such file.
func ReadIdentity(kubeconfig string) (Identity, error) {
	cluster, user, err := currentContext(kubeconfig)
	if err != nil {
		return Identity{}, err
	}
	id := Identity{CertFile: user.ClientCertificate, Authority: cluster.CertificateAuthorityData}
	if len(id.Authority) == 0 && cluster.CertificateAuthority != "" {
		if id.Authority, err = os.ReadFile(cluster.CertificateAuthority); err != nil {
			return id, fmt.Errorf("read the authority that kubeconfig %s names: %w", kubeconfig, err)
		}
	}
	return id, nil
}

func currentContext(kubeconfig string) (*clientcmdapi.Cluster, *clientcmdapi.AuthInfo, error) {
	c, err := clientcmd.LoadFromFile(kubeconfig)
	if err != nil {
		return nil, nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	if err := clientcmd.ResolveLocalPaths(c); err != nil {
		return nil, nil, fmt.Errorf("read kubeconfig %s: %w", kubeconfig, err)
	}
	context := c.Contexts[c.CurrentContext]
	if context == nil || c.Clusters[context.Cluster] == nil {
		return nil, nil, fmt.Errorf("read kubeconfig %s: its current context %q names no cluster", kubeconfig, c.CurrentContext)
	}
	user := c.AuthInfos[context.AuthInfo]
	if user == nil {
		user = clientcmdapi.NewAuthInfo()
	}
	return c.Clusters[context.Cluster], user, nil
}

// WriteKubeconfig writes a kubeconfig for the server of another one, whose user has the pair of
// certificate and key in certFile. The file is for root alone, and there at once.
func WriteKubeconfig(path, from, certFile string) error {
	cluster, _, err := currentContext(from)
	if err != nil {
		return err
	}
	c := clientcmdapi.NewConfig()
	c.Clusters["default"] = cluster
	c.AuthInfos["node"] = &clientcmdapi.AuthInfo{ClientCertificate: certFile, ClientKey: certFile}
	c.Contexts["default"] = &clientcmdapi.Context{Cluster: "default", AuthInfo: "node"}
	c.CurrentContext = "default"
	if cluster.CertificateAuthority != "" {
		cluster.CertificateAuthorityData, err = os.ReadFile(cluster.CertificateAuthority)
		cluster.CertificateAuthority = ""
	}
	data, encodeErr := clientcmd.Write(*c)
	if err = errors.Join(err, encodeErr); err != nil {
		return fmt.Errorf("make kubeconfig %s: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	temp := path + ".new"
	if err := errors.Join(os.WriteFile(temp, data, 0o600), os.Rename(temp, path)); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return nil
}
