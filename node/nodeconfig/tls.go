package nodeconfig

import (
	"crypto/tls"
	"fmt"
	"slices"

	"nodelet/node"
)

// keepCertificate takes rotateCertificates: certificates are renewed unless it says no.
func keepCertificate(c *node.Config, v any) error {
	rotate, err := decode[bool](v)
	c.Kubelet.KeepCertificate = err == nil && !rotate
	return err
}

// tlsVersions are upstream's names; older ones are not served.
var tlsVersions = map[string]uint16{"VersionTLS12": tls.VersionTLS12, "VersionTLS13": tls.VersionTLS13}

func tlsMinVersion(c *node.Config, v any) error {
	version, ok := tlsVersions[plain(v)]
	if !ok {
		return fmt.Errorf("%q is none of VersionTLS12, VersionTLS13", plain(v))
	}
	c.Kubelet.TLSMinVersion = version
	return nil
}

// cipherSuites takes the names of RFC 5246's suites, as crypto/tls has them. Those of TLS 1.3 cannot be chosen, and
// are served anyway.
func cipherSuites(c *node.Config, v any) error {
	names, err := decode[[]string](v)
	if err != nil {
		return err
	}
	suites := tls.CipherSuites()
	c.Kubelet.TLSCipherSuites = nil
	for _, name := range names {
		i := slices.IndexFunc(suites, func(s *tls.CipherSuite) bool { return s.Name == name })
		if i < 0 {
			return fmt.Errorf("%q is no cipher suite that is served", name)
		}
		c.Kubelet.TLSCipherSuites = append(c.Kubelet.TLSCipherSuites, suites[i].ID)
	}
	return nil
}
