package apiserver

import (
	"fmt"
	"net/netip"
	"strings"

	"nodelet/controlplane/pki"
)

// Config is what the API server needs to know.
type Config struct {
	AdvertiseAddress netip.Addr
	ServiceCIDR      string // one prefix, or two of different families, by comma
	ClusterDomain    string
	KubeletPort      uint16   // where nodes that do not say it have their kubelet API
	Etcd             []string // endpoints
	Files            pki.Files
	AuthnConfig      string   // path; see AuthenticationConfig
	ExtraArgs        []string // upstream flags of the operator, "--flag=value"
}

const defaultKubeletPort = 10250

// Paths that answer without credentials: what load balancers and supervisors
// ask. Everything else needs a certificate or a token.
var anonymousPaths = []string{"/livez", "/readyz", "/healthz"}

// AuthenticationConfig returns the content of the file Config.AuthnConfig
// names.
func AuthenticationConfig() []byte {
	var b strings.Builder
	b.WriteString("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n")
	b.WriteString("anonymous:\n  enabled: true\n  conditions:\n")
	for _, p := range anonymousPaths {
		fmt.Fprintf(&b, "  - path: %s\n", p)
	}
	return []byte(b.String())
}

// Args returns upstream's flags. The listener is not among them: it is handed
// over open.
func (c Config) Args() []string {
	issuer := "https://kubernetes.default.svc." + c.ClusterDomain
	args := []string{
		"--etcd-servers=" + strings.Join(c.Etcd, ","),
		"--advertise-address=" + c.AdvertiseAddress.String(),
		"--service-cluster-ip-range=" + c.ServiceCIDR,
		"--tls-cert-file=" + c.Files.APIServerCert,
		"--tls-private-key-file=" + c.Files.APIServerKey,

		"--client-ca-file=" + c.Files.CACert,
		"--authentication-config=" + c.AuthnConfig,
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		// Nodes join with tokens (bootstrap-kubeconfig).
		"--enable-bootstrap-token-auth=true",
		"--service-account-issuer=" + issuer,
		"--service-account-key-file=" + c.Files.ServiceAccountPub,
		"--service-account-signing-key-file=" + c.Files.ServiceAccountKey,

		"--requestheader-client-ca-file=" + c.Files.FrontProxyCACert,
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + c.Files.FrontProxyCert,
		"--proxy-client-key-file=" + c.Files.FrontProxyKey,

		"--kubelet-client-certificate=" + c.Files.KubeletClientCert,
		"--kubelet-client-key=" + c.Files.KubeletClientKey,
		"--kubelet-certificate-authority=" + c.Files.CACert,
		// Node names need not resolve anywhere.
		"--kubelet-preferred-address-types=InternalIP,ExternalIP,InternalDNS,ExternalDNS,Hostname",

		"--allow-privileged=true", // per pod it is Pod Security's decision
		// Webhooks and aggregated APIs are dialled at a pod: the control plane
		// may run where no service proxy translates cluster addresses.
		"--enable-aggregator-routing=true",
		"--profiling=false",
		// Both are for several API servers of different versions finding each
		// other, and write a Lease every ten seconds for it.
		"--feature-gates=APIServerIdentity=false,UnknownVersionInteroperabilityProxy=false",
	}
	if c.KubeletPort != defaultKubeletPort { // the flag warns of its deprecation
		args = append(args, fmt.Sprintf("--kubelet-port=%d", c.KubeletPort))
	}
	return append(args, c.ExtraArgs...)
}
