package volume

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"sync"
	"time"

	"nodelet/agent/volume/volumeplan"
	"nodelet/internal/model"
)

// credentialKey is a podCertificate source of a pod.
type credentialKey struct {
	volume string
	source int
}

// credentials holds those of all pods. Only who holds a pod's lock changes what is known of that pod.
type credentials struct {
	mu   sync.Mutex
	pods map[model.UID]map[credentialKey]credential
}

// of gives a copy; the zero value for one that has not been looked at.
func (c *credentials) of(pod model.UID, key credentialKey) *credential {
	c.mu.Lock()
	defer c.mu.Unlock()
	have := c.pods[pod][key]
	return &have
}

func (c *credentials) put(pod model.UID, key credentialKey, have *credential) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pods == nil {
		c.pods = map[model.UID]map[credentialKey]credential{}
	}
	if c.pods[pod] == nil {
		c.pods[pod] = map[credentialKey]credential{}
	}
	c.pods[pod][key] = *have
}

func (c *credentials) forget(pod model.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pods, pod)
}

// EachPodCertificate counts the podCertificate sources of the node's pods by signer and state.
func (v *Volumes) EachPodCertificate(each func(signer, state string, n int)) {
	type group struct{ signer, state string }
	now, count := time.Now(), map[group]int{}
	v.credentials.mu.Lock()
	for _, pod := range v.credentials.pods {
		for _, have := range pod {
			count[group{have.signer, have.state(now)}]++
		}
	}
	v.credentials.mu.Unlock()
	for g, n := range count {
		each(g.signer, g.state, n)
	}
}

// lifetime reads from when until when a credential is good; an error when its certificate is not that of its key.
func lifetime(have volumeplan.Credential) (from, until time.Time, err error) {
	pair, err := tls.X509KeyPair(have.Chain, have.Key)
	if err != nil {
		return from, until, err
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return from, until, err
	}
	return leaf.NotBefore, leaf.NotAfter, nil
}

// makeKey makes a key of one of the types of KEP-4317, as PEM, and an empty request for a certificate that
// proves its possession.
func makeKey(kind string) (keyPEM, proof []byte, err error) {
	var key crypto.Signer
	switch kind {
	case "RSA3072":
		key, err = rsa.GenerateKey(rand.Reader, 3072)
	case "RSA4096":
		key, err = rsa.GenerateKey(rand.Reader, 4096)
	case "ECDSAP256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ECDSAP384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ECDSAP521":
		key, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "ED25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		return nil, nil, fmt.Errorf("key type %q of podCertificate is not known", kind)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("make key of type %s: %w", kind, err)
	}
	if proof, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key); err != nil {
		return nil, nil, fmt.Errorf("prove possession of a key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), proof, nil
}
