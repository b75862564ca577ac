package identity

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"nodelet/controlplane/durable"
	"nodelet/controlplane/pki"
)

// NodeConfig says for which node files are wanted.
type NodeConfig struct {
	Dir       string       // node.kubeconfig goes here, the rest into pki below
	Name      string       // of the Node object
	Server    string       // URL of the API server
	Addresses []netip.Addr // under which the kubelet API is reached
}

const (
	userNodePrefix = "system:node:"
	groupNodes     = "system:nodes"
)

// Node writes what a node daemon needs: its kubeconfig, the serving pair of its
// kubelet API, and the authority that the API server's client certificate is
// checked against.
func (s Signer) Node(cfg NodeConfig) error {
	if err := cfg.validate(); err != nil {
		return err
	}
	dir := filepath.Join(cfg.Dir, "pki")
	if err := durable.Dir(dir, durable.Private); err != nil {
		return err
	}
	clientCA := filepath.Join(dir, "kubelet-client-ca.crt")
	if _, err := durable.WriteIfChanged(clientCA, s.CA.PEM(), durable.Public); err != nil {
		return err
	}
	serving := pki.Request{
		CommonName: userNodePrefix + cfg.Name, Organizations: []string{groupNodes},
		DNSNames: []string{cfg.Name, "localhost"}, Server: true,
		Addresses: append([]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, cfg.Addresses...),
	}
	err := pki.EnsurePair(s.CA, pki.PairFiles{Cert: filepath.Join(dir, "kubelet-server.crt"), Key: filepath.Join(dir, "kubelet-server.key")},
		serving, pki.Config{Now: s.Now, Log: s.Log})
	if err != nil {
		return err
	}
	return s.ensure(filepath.Join(cfg.Dir, "node.kubeconfig"), cfg.Server, pki.Request{
		CommonName: userNodePrefix + cfg.Name, Organizations: []string{groupNodes}, Client: true,
	})
}

func (c NodeConfig) validate() error {
	if problems := validation.IsDNS1123Subdomain(c.Name); len(problems) > 0 {
		return fmt.Errorf("check node name %q: %s", c.Name, strings.Join(problems, "; "))
	}
	if len(c.Addresses) == 0 {
		return errors.New("check node addresses: at least one is needed for the kubelet API's certificate")
	}
	return nil
}
