package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/agent/volume/atomic"
	"nodelet/agent/volume/volumeplan"
	"nodelet/internal/model"
)

const (
	// certificateFirst and certificateLast bound the waits between two looks at
	// a request: a signer answers in milliseconds, a person in minutes.
	certificateFirst = 50 * time.Millisecond
	certificateLast  = 5 * time.Second
	// certificateLost is how long a request that cannot be found may just not
	// be known yet to the server that is asked; after it somebody has deleted it.
	certificateLost = 10 * time.Minute
	// certificateQuiet is how long a signer may take before users hear of it.
	certificateQuiet = 15 * time.Second
)

// errNotIssued: a request is under way, and there is no older certificate.
var errNotIssued = errors.New("credential bundle is not issued yet")

// errSlowSigner is the same after certificateQuiet.
var errSlowSigner = fmt.Errorf("%w: its signer has not answered", errNotIssued)

// refusedError: no certificate will come, and it is not for this node to mend.
type refusedError string

func (e refusedError) Error() string { return string(e) }

// Certificates asks signers for certificates of pods (KEP-4317).
type Certificates interface {
	GetServiceAccount(ctx context.Context, key model.Key) (*corev1.ServiceAccount, error)
	CreatePodCertificateRequest(ctx context.Context, r *certificatesv1.PodCertificateRequest) (*certificatesv1.PodCertificateRequest, error)
	GetPodCertificateRequest(ctx context.Context, key model.Key) (*certificatesv1.PodCertificateRequest, error)
}

// credential is what is known of one podCertificate source of a pod. What is
// in the volume is read again after a restart; a request whose answer a killed
// daemon did not see is made anew, as its key was nowhere but in memory.
type credential struct {
	volumeplan.Credential
	signer string
	// asked is the request under way, nil for none.
	asked *certificateRequest
	// refused says that none will ever come.
	refused *volumeplan.Refusal
	// told is the state that users have heard of.
	told string
}

type certificateRequest struct {
	name string
	key  []byte
	at   time.Time
	next time.Duration
}

// certificate gives the files of a podCertificate source: of the credential
// that the pod has, or of a new one once that is issued.
func (m *maker) certificate(ctx context.Context, root *os.Root, volume string, c volumeplan.Certificate) ([]volumeplan.File, error) {
	have := m.credentials.of(m.uid, credentialKey{volume, c.Source})
	now := time.Now()
	if have.signer == "" { // the first look since the start
		have.Credential = m.restore(root, c)
	}
	have.signer = c.Signer
	err := m.renew(ctx, have, c, now)
	m.tellCertificate(have, now)
	m.credentials.put(m.uid, credentialKey{volume, c.Source}, have)
	if have.refused != nil {
		return nil, refusedError(have.refused.Text)
	}
	if len(have.Chain) == 0 {
		return nil, err
	}
	if err != nil && !errors.Is(err, errNotIssued) {
		m.deps.Log.Warn("renew certificate of pod: the old one serves until it expires", "pod", m.uid, "signer", c.Signer, "expires", have.Expires, "err", err)
		m.wait(tokenRetry)
	}
	if have.asked == nil {
		m.wait(max(have.Refresh.Sub(now), tokenRetry))
	}
	return c.Files(have.Credential), nil
}

// restore reads the credential that an earlier run of the daemon left in the volume.
func (m *maker) restore(root *os.Root, c volumeplan.Certificate) volumeplan.Credential {
	have, ok := c.Read(func(path string) []byte {
		if path == "" {
			return nil
		}
		data, err := atomic.Read(root, path)
		if err != nil {
			return nil
		}
		return data
	})
	if !ok {
		return volumeplan.Credential{}
	}
	from, until, err := lifetime(have)
	if err != nil {
		m.deps.Log.Warn("read the certificate that is in a volume of pod: another one is asked for", "pod", m.uid, "signer", c.Signer, "err", err)
		return volumeplan.Credential{}
	}
	have.Expires, have.Refresh = until, volumeplan.HalfLife(from, until, m.uid)
	return have
}

// renew goes as far as it can without waiting: it asks for a certificate when one is due, and looks what has
// become of a request.
func (m *maker) renew(ctx context.Context, have *credential, c volumeplan.Certificate, now time.Time) error {
	if have.refused != nil || have.asked == nil && len(have.Chain) > 0 && now.Before(have.Refresh) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, tokenPatience)
	defer cancel()
	if have.asked == nil {
		asked, err := m.askCertificate(ctx, c, now)
		if err != nil {
			return err
		}
		have.asked = asked
	}
	r, err := m.deps.Certificates.GetPodCertificateRequest(ctx, model.Key{Namespace: m.pod.Namespace, Name: have.asked.name})
	switch {
	case apierrors.IsNotFound(err) && now.Sub(have.asked.at) > certificateLost:
		have.asked = nil
		m.wait(certificateFirst)
		return errNotIssued
	case err != nil && !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err):
		return fmt.Errorf("read PodCertificateRequest %s: %w", have.asked.name, err)
	case err == nil:
		var got *volumeplan.Credential
		if got, have.refused = volumeplan.Answer(r, m.uid); got != nil {
			got.Key = have.asked.key
			*have = credential{Credential: *got, signer: have.signer}
			return nil
		}
		if have.refused != nil {
			have.asked = nil
			return nil
		}
	}
	m.wait(have.asked.next)
	have.asked.next = min(2*have.asked.next, certificateLast)
	if now.Sub(have.asked.at) > certificateQuiet {
		return fmt.Errorf("%w PodCertificateRequest %s/%s", errSlowSigner, m.pod.Namespace, have.asked.name)
	}
	return errNotIssued
}

// askCertificate makes a key, and a request for a certificate to it.
func (m *maker) askCertificate(ctx context.Context, c volumeplan.Certificate, now time.Time) (*certificateRequest, error) {
	if m.deps.Certificates == nil {
		return nil, errors.New("certificates for pods are not supported by this node")
	}
	node, ok := m.snap.Nodes.Get(model.Key{Name: m.cfg.NodeName})
	if !ok {
		m.wait(factsWait)
		return nil, errNotIssued
	}
	account := model.Key{Namespace: m.pod.Namespace, Name: m.pod.Spec.ServiceAccountName}
	sa, err := m.deps.Certificates.GetServiceAccount(ctx, account)
	if err != nil {
		return nil, fmt.Errorf("read service account %s: %w", account, err)
	}
	key, proof, err := makeKey(c.KeyType)
	if err != nil {
		return nil, err
	}
	made, err := m.deps.Certificates.CreatePodCertificateRequest(ctx, &certificatesv1.PodCertificateRequest{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: m.pod.Namespace, GenerateName: "req-",
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: m.pod.Name, UID: m.pod.UID}},
		},
		Spec: certificatesv1.PodCertificateRequestSpec{
			SignerName: c.Signer, PodName: m.pod.Name, PodUID: m.pod.UID,
			ServiceAccountName: sa.Name, ServiceAccountUID: sa.UID,
			NodeName: types.NodeName(node.Name), NodeUID: types.UID(node.UID),
			MaxExpirationSeconds: c.MaxSeconds, StubPKCS10Request: proof, UnverifiedUserAnnotations: c.Annotations,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("create PodCertificateRequest for signer %s: %w", c.Signer, err)
	}
	return &certificateRequest{name: made.Name, key: key, at: now, next: certificateFirst}, nil
}

// tellCertificate tells users of the pod what they must know of its credential, once each.
func (m *maker) tellCertificate(have *credential, now time.Time) {
	reason, message, state := "", "", have.state(now)
	switch state {
	case volumeplan.CertificateDenied, volumeplan.CertificateFailed:
		reason, message = have.refused.Reason, have.refused.Event
	case volumeplan.CertificateOverdue:
		reason, message = "CertificateOverdueForRefresh", "PodCertificate refresh overdue"
	case volumeplan.CertificateExpired:
		reason, message = "CertificateExpired", "PodCertificate expired"
	}
	if reason != "" && have.told != state {
		m.deps.Events.Event(m.ref(), corev1.EventTypeWarning, reason, message)
	}
	have.told = state
}

func (c *credential) state(now time.Time) string {
	switch {
	case c.refused == nil:
		return c.State(now)
	case c.refused.Reason == certificatesv1.PodCertificateRequestConditionTypeDenied:
		return volumeplan.CertificateDenied
	}
	return volumeplan.CertificateFailed
}
