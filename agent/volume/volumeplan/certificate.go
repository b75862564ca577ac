package volumeplan

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/internal/model"
)

const (
	// maxCertificateJitter spreads the renewals of the pods of a node.
	maxCertificateJitter = 5 * time.Minute
	// overdueAfter is how late a renewal may be before anybody hears of it.
	overdueAfter = 10 * time.Minute
)

// Certificate is a key to make and a certificate to ask a signer for (KEP-4317).
type Certificate struct {
	// Source is its place among the sources of the volume.
	Source int
	// BundlePath gets key and chain, KeyPath and ChainPath one of them; empty for none.
	BundlePath, KeyPath, ChainPath string
	Mode                           uint32
	// UID of the owner, -1 for the daemon's own.
	UID     int64
	Signer  string
	KeyType string
	// MaxSeconds of the certificate's life; nil for the API's default.
	MaxSeconds  *int32
	Annotations map[string]string
}

// certificate plans the files of a podCertificate source.
func (b *builder) certificate(source int, src *corev1.PodCertificateProjection) {
	c := Certificate{
		Source: source, Signer: src.SignerName, KeyType: src.KeyType, MaxSeconds: src.MaxExpirationSeconds, Annotations: src.UserAnnotations,
		BundlePath: src.CredentialBundlePath, KeyPath: src.KeyPath, ChainPath: src.CertificateChainPath,
	}
	c.Mode, c.UID = b.private()
	for _, p := range c.paths() {
		if *p != "" {
			*p = b.clean(*p)
			b.claim(*p)
		}
	}
	b.certificates = append(b.certificates, c)
}

func (c *Certificate) paths() []*string { return []*string{&c.BundlePath, &c.KeyPath, &c.ChainPath} }

// Paths of the files that come of it, in no order.
func (c Certificate) Paths() []string {
	var out []string
	for _, p := range c.paths() {
		if *p != "" {
			out = append(out, *p)
		}
	}
	return out
}

// Credential is a key with its certificate and those above it, as PEM.
type Credential struct {
	Key, Chain []byte
	// Refresh is when to ask for the next one, Expires when it is of no use any more.
	Refresh, Expires time.Time
}

// Files are those of a credential.
func (c Certificate) Files(have Credential) []File {
	var out []File
	add := func(path string, data []byte) {
		if path != "" {
			out = append(out, File{Path: path, Data: data, Mode: c.Mode, UID: c.UID})
		}
	}
	add(c.BundlePath, slices.Concat(have.Key, have.Chain))
	add(c.KeyPath, have.Key)
	add(c.ChainPath, have.Chain)
	return out
}

// Read takes a credential out of its files, which read gives; false when they hold none that is whole.
func (c Certificate) Read(read func(path string) []byte) (Credential, bool) {
	key, chain := read(c.KeyPath), read(c.ChainPath)
	if c.BundlePath != "" {
		block, rest := pem.Decode(read(c.BundlePath))
		if block == nil {
			return Credential{}, false
		}
		key, chain = pem.EncodeToMemory(block), rest
	}
	have := Credential{Key: key, Chain: cleanChain(chain)}
	return have, len(have.Key) > 0 && len(have.Chain) > 0
}

// cleanChain drops what is between the certificates, and the headers of their blocks.
func cleanChain(text []byte) []byte {
	var out bytes.Buffer
	for _, der := range certificates(text) {
		out.Write(pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: der}))
	}
	return out.Bytes()
}

// Refusal is why a signer will never answer a request with a certificate.
type Refusal struct {
	// Reason of the event: Denied or Failed.
	Reason string
	// Event is what users read once, Text why the volume is not there.
	Event, Text string
}

// Answer reads what has become of a request for a pod: a credential without its key, a refusal, or neither yet.
func Answer(r *certificatesv1.PodCertificateRequest, pod model.UID) (*Credential, *Refusal) {
	for _, c := range r.Status.Conditions {
		switch c.Type {
		case certificatesv1.PodCertificateRequestConditionTypeDenied:
			return nil, refusal(r, c, "was denied", "denied")
		case certificatesv1.PodCertificateRequestConditionTypeFailed:
			return nil, refusal(r, c, "failed", "failed")
		case certificatesv1.PodCertificateRequestConditionTypeIssued:
			chain := cleanChain([]byte(r.Status.CertificateChain))
			if len(chain) == 0 || r.Status.NotAfter == nil || r.Status.BeginRefreshAt == nil {
				c.Type, c.Message = certificatesv1.PodCertificateRequestConditionTypeFailed, "issued without a certificate or its times"
				return nil, refusal(r, c, "failed", "failed")
			}
			return &Credential{Chain: chain, Expires: r.Status.NotAfter.Time, Refresh: r.Status.BeginRefreshAt.Add(certificateJitter(pod))}, nil
		}
	}
	return nil, nil
}

// refusal is told in upstream's words.
func refusal(r *certificatesv1.PodCertificateRequest, c metav1.Condition, verb, state string) *Refusal {
	why := fmt.Sprintf("reason=%q message=%q", c.Reason, c.Message)
	return &Refusal{
		Reason: c.Type,
		Event:  fmt.Sprintf("PodCertificateRequest %s/%s %s, %s", r.Namespace, r.Name, verb, why),
		Text:   fmt.Sprintf("PodCertificateRequest was permanently %s: %s", state, why),
	}
}

// HalfLife is when to renew a certificate of which nobody remembers when its signer wants that, as after a restart.
func HalfLife(from, until time.Time, pod model.UID) time.Time {
	return from.Add(until.Sub(from) / 2).Add(certificateJitter(pod))
}

func certificateJitter(pod model.UID) time.Duration {
	h := fnv.New64a()
	h.Write([]byte(pod))
	return time.Duration(h.Sum64()>>1) % maxCertificateJitter
}

// The states of a credential, as upstream's metric names them.
const (
	CertificateMissing = "not_yet_issued"
	CertificateDenied  = "denied"
	CertificateFailed  = "failed"
	CertificateFresh   = "fresh"
	CertificateOverdue = "overdue_for_refresh"
	CertificateExpired = "expired"
)

// State is that of a credential at a time.
func (c Credential) State(now time.Time) string {
	switch {
	case len(c.Chain) == 0:
		return CertificateMissing
	case now.After(c.Expires):
		return CertificateExpired
	case now.After(c.Refresh.Add(overdueAfter)):
		return CertificateOverdue
	}
	return CertificateFresh
}
