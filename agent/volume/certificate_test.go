package volume

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"nodelet/internal/model"
)

// signer is an API server with a signer behind it, which answers at once.
type signer struct {
	mu       sync.Mutex
	key      ed25519.PrivateKey
	requests map[string]*certificatesv1.PodCertificateRequest
	// hold keeps requests unanswered, deny answers them with that condition.
	hold bool
	deny string
	away bool
	// life of certificates, and when they are to be renewed.
	life, refresh time.Duration
	// age is how long ago they were issued.
	age time.Duration
}

func newSigner(t *testing.T) *signer {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{key: key, requests: map[string]*certificatesv1.PodCertificateRequest{}, life: time.Hour, refresh: 30 * time.Minute}
}

func (s *signer) GetServiceAccount(_ context.Context, key model.Key) (*corev1.ServiceAccount, error) {
	sa := &corev1.ServiceAccount{}
	sa.Namespace, sa.Name, sa.UID = key.Namespace, key.Name, "sa-uid"
	return sa, nil
}

func (s *signer) CreatePodCertificateRequest(_ context.Context, r *certificatesv1.PodCertificateRequest) (*certificatesv1.PodCertificateRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return nil, errors.New("the API server is away")
	}
	r = r.DeepCopy()
	r.Name = fmt.Sprint(r.GenerateName, len(s.requests)+1)
	s.requests[r.Name] = r
	return r, nil
}

func (s *signer) GetPodCertificateRequest(_ context.Context, key model.Key) (*certificatesv1.PodCertificateRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.requests[key.Name]
	switch {
	case s.away:
		return nil, errors.New("the API server is away")
	case !ok:
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "podcertificaterequests"}, key.Name)
	case len(r.Status.Conditions) > 0 || s.hold:
	case s.deny != "":
		r.Status.Conditions = []metav1.Condition{{Type: s.deny, Reason: "UnsupportedKeyType", Message: "take another"}}
	default:
		if err := s.sign(r); err != nil {
			return nil, err
		}
	}
	return r.DeepCopy(), nil
}

func (s *signer) sign(r *certificatesv1.PodCertificateRequest) error {
	asked, err := x509.ParseCertificateRequest(r.Spec.StubPKCS10Request)
	if err == nil {
		err = asked.CheckSignature()
	}
	if err != nil {
		return err
	}
	from := time.Now().Add(-s.age)
	cert := &x509.Certificate{SerialNumber: big.NewInt(int64(len(s.requests))), Subject: pkix.Name{CommonName: r.Name}, NotBefore: from, NotAfter: from.Add(s.life)}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, asked.PublicKey, s.key)
	if err != nil {
		return err
	}
	r.Status.CertificateChain = "issued for you\n" + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der, Headers: map[string]string{"a": "b"}}))
	at := func(d time.Duration) *metav1.Time { t := metav1.NewTime(from.Add(d)); return &t }
	r.Status.NotBefore, r.Status.BeginRefreshAt, r.Status.NotAfter = at(0), at(s.refresh), at(s.life)
	r.Status.Conditions = []metav1.Condition{{Type: certificatesv1.PodCertificateRequestConditionTypeIssued}}
	return nil
}

func (s *signer) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *signer) made() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.requests))
}

const certificateVolume = `
  - name: id
    projected:
      sources:
      - podCertificate: {signerName: example.com/a, keyType: %s, credentialBundlePath: bundle.pem, keyPath: key.pem, certificateChainPath: chain.pem, maxExpirationSeconds: 7200, userAnnotations: {example.com/who: me}}
`

func certified(t *testing.T, n int) *corev1.Pod {
	pod := parsePod(t, n, fmt.Sprintf(certificateVolume, "ECDSAP256"))
	pod.Spec.ServiceAccountName = "robot"
	return pod
}

func newSigningWorld(t *testing.T) (*world, *signer) {
	s := newSigner(t)
	w := &world{certificates: s}
	w.init(t)
	w.node()
	return w, s
}

// node says who this node is.
func (w *world) node() {
	w.w.Nodes.Replace(map[model.Key]*model.Node{{Name: "node-1"}: {Name: "node-1", UID: "node-uid"}})
}

// subject is the name on the certificate that a pod has, which must be that of its key.
func (w *world) subject(n int) string {
	w.t.Helper()
	dir := w.ready(uid(n)).HostPaths["id"]
	key, chain, bundle := w.read(filepath.Join(dir, "key.pem")), w.read(filepath.Join(dir, "chain.pem")), w.read(filepath.Join(dir, "bundle.pem"))
	if bundle != key+chain || strings.Contains(chain, "issued for you") || strings.Contains(chain, "a: b") {
		w.t.Fatalf("bundle %q, key %q, chain %q", bundle, key, chain)
	}
	pair, err := tls.X509KeyPair([]byte(bundle), []byte(bundle))
	if err != nil {
		w.t.Fatal(err)
	}
	return pair.Leaf.Subject.CommonName
}

func (w *world) certificateStates() string {
	var out []string
	w.v.EachPodCertificate(func(signer, state string, n int) { out = append(out, fmt.Sprint(signer, " ", state, " ", n)) })
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func TestPodCertificate(t *testing.T) {
	w, s := newSigningWorld(t)
	s.set(func() { s.hold = true })
	pod := certified(t, 1)
	user := int64(1000)
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: &user}
	w.sync(pod)
	w.says(uid(1), model.VolumesAbsent, "credential bundle is not issued yet")
	if got := w.certificateStates(); got != "example.com/a not_yet_issued 1" {
		t.Errorf("states %s", got)
	}
	s.set(func() { s.hold = false })
	if got := w.subject(1); got != "req-1" {
		t.Errorf("certificate of %s", got)
	}
	if got := w.certificateStates(); got != "example.com/a fresh 1" {
		t.Errorf("states %s", got)
	}
	r := s.requests["req-1"]
	if got := fmt.Sprintln(r.Namespace, r.OwnerReferences[0].UID, r.Spec.PodName, r.Spec.PodUID, r.Spec.ServiceAccountName, r.Spec.ServiceAccountUID,
		r.Spec.NodeName, r.Spec.NodeUID, *r.Spec.MaxExpirationSeconds, r.Spec.UnverifiedUserAnnotations); strings.TrimSpace(got) != "ns "+uid(1).String()+" p1 "+uid(1).String()+" robot sa-uid node-1 node-uid 7200 map[example.com/who:me]" {
		t.Errorf("asked as %s", got)
	}
	var st syscall.Stat_t
	if err := syscall.Stat(filepath.Join(w.ready(uid(1)).HostPaths["id"], "key.pem"), &st); err != nil || st.Mode&0o7777 != 0o600 || st.Uid != 1000 {
		t.Errorf("mode %o, owner %d, %v", st.Mode&0o7777, st.Uid, err)
	}
	if len(w.events.String()) > 0 {
		t.Errorf("events %s", w.events)
	}
}

// A signer that does not answer is told of, once, and may still answer.
func TestPodCertificateSlowSigner(t *testing.T) {
	w, s := newSigningWorld(t)
	s.set(func() { s.hold = true })
	w.sync(certified(t, 1))
	w.says(uid(1), model.VolumesAbsent, "credential bundle is not issued yet")
	key := credentialKey{"id", 0}
	release, err := w.v.pods.Acquire(t.Context(), uid(1))
	if err != nil {
		t.Fatal(err)
	}
	have := w.v.credentials.of(uid(1), key)
	have.asked.at = have.asked.at.Add(-time.Minute)
	w.v.credentials.put(uid(1), key, have)
	release()
	w.says(uid(1), model.VolumesFailed, `volume "id" : credential bundle is not issued yet: its signer has not answered PodCertificateRequest ns/req-1`)
	w.look(uid(1))
	if got := w.events.String(); strings.Count(got, "FailedMount") != 1 {
		t.Errorf("events %s", got)
	}
	s.set(func() { s.hold = false })
	if got := w.subject(1); got != "req-1" {
		t.Errorf("certificate of %s", got)
	}
}

// A restart of the daemon goes on with the certificate that the pod has.
func TestPodCertificateSurvivesRestart(t *testing.T) {
	w, s := newSigningWorld(t)
	w.sync(certified(t, 1))
	w.subject(1)
	w.boot()
	w.node()
	s.set(func() { s.away = true })
	w.sync(certified(t, 1))
	if got := w.subject(1); got != "req-1" || len(s.made()) != 1 {
		t.Errorf("certificate of %s, asked %q", got, s.made())
	}
	w.halt()
	// The chain of another key is not taken over.
	s.set(func() { s.away = false })
	w.boot()
	w.node()
	dir := filepath.Join(w.root, "pods", string(uid(1)), "volumes/kubernetes.io~projected/id/..data")
	for _, name := range []string{"bundle.pem", "key.pem"} {
		key, _, err := makeKey("ED25519")
		if err != nil {
			t.Fatal(err)
		}
		w.overwrite(filepath.Join(dir, name), string(key)+map[bool]string{true: w.read(filepath.Join(dir, "chain.pem"))}[name == "bundle.pem"])
	}
	w.sync(certified(t, 1))
	if got := w.subject(1); got != "req-2" {
		t.Errorf("certificate of %s", got)
	}
}

// A certificate is renewed when its signer says so; the old one serves as long as it must, and what is late is told.
func TestPodCertificateIsRenewed(t *testing.T) {
	w, s := newSigningWorld(t)
	s.set(func() { s.age, s.refresh = 50*time.Minute, 20*time.Minute })
	w.sync(certified(t, 1))
	if got := w.subject(1); got != "req-1" {
		t.Errorf("certificate of %s", got)
	}
	s.set(func() { s.away = true })
	w.look(uid(1))
	if got := w.subject(1); got != "req-1" || w.certificateStates() != "example.com/a overdue_for_refresh 1" {
		t.Errorf("certificate of %s, %s", got, w.certificateStates())
	}
	w.look(uid(1))
	if want := "p1 Warning CertificateOverdueForRefresh: PodCertificate refresh overdue"; w.events.String() != want {
		t.Errorf("events %q, want one", w.events)
	}
	s.set(func() { s.away, s.age = false, 0 })
	w.look(uid(1))
	if got := w.subject(1); got != "req-2" || w.certificateStates() != "example.com/a fresh 1" {
		t.Errorf("certificate of %s, %s", got, w.certificateStates())
	}
	w.look(uid(1))
	if got := s.made(); len(got) != 2 {
		t.Errorf("asked %q", got)
	}
}

// What a signer refuses it refuses for good, and the user is told once.
func TestPodCertificateRefused(t *testing.T) {
	for condition, word := range map[string]string{"Denied": "was denied", "Failed": "failed"} {
		w, s := newSigningWorld(t)
		s.set(func() { s.deny = condition })
		w.sync(certified(t, 1))
		w.says(uid(1), model.VolumesFailed, `MountVolume.SetUp failed for volume "id" : PodCertificateRequest was permanently `+strings.ToLower(condition)+`: reason="UnsupportedKeyType" message="take another"`)
		w.look(uid(1))
		w.look(uid(1))
		if got := s.made(); len(got) != 1 {
			t.Errorf("asked %q", got)
		}
		if want := "p1 Warning " + condition + ": PodCertificateRequest ns/req-1 " + word + `, reason="UnsupportedKeyType" message="take another"`; strings.Count(w.events.String(), want) != 1 {
			t.Errorf("events %s", w.events)
		}
		if got := w.certificateStates(); got != "example.com/a "+strings.ToLower(condition)+" 1" {
			t.Errorf("states %s", got)
		}
		w.sync()
		w.gone(uid(1))
		if got := w.certificateStates(); got != "" {
			t.Errorf("states of no pod: %s", got)
		}
	}
}

// A key is of the type that was asked for, and its request proves it.
func TestKeyTypes(t *testing.T) {
	for kind, want := range map[string]string{
		"RSA3072": "*rsa.PublicKey 384", "RSA4096": "*rsa.PublicKey 512",
		"ECDSAP256": "*ecdsa.PublicKey 0", "ECDSAP384": "*ecdsa.PublicKey 0", "ECDSAP521": "*ecdsa.PublicKey 0", "ED25519": "ed25519.PublicKey 0",
	} {
		key, proof, err := makeKey(kind)
		if err != nil {
			t.Fatal(err)
		}
		block, rest := pem.Decode(key)
		if block == nil || block.Type != "PRIVATE KEY" || len(rest) > 0 {
			t.Fatalf("%s: %s", kind, key)
		}
		if _, err := x509.ParsePKCS8PrivateKey(block.Bytes); err != nil {
			t.Error(err)
		}
		r, err := x509.ParseCertificateRequest(proof)
		if err != nil || r.CheckSignature() != nil || len(r.Subject.Names) > 0 {
			t.Fatalf("%s: %v %v", kind, r, err)
		}
		size := 0
		if k, ok := r.PublicKey.(interface{ Size() int }); ok {
			size = k.Size()
		}
		if got := fmt.Sprintf("%T %d", r.PublicKey, size); got != want {
			t.Errorf("%s: %s", kind, got)
		}
	}
	if _, _, err := makeKey("DSA"); err == nil {
		t.Error("a type that nobody knows is made")
	}
}

const trustVolume = `
  - name: ca
    projected:
      sources:
      - clusterTrustBundle: {name: anchors, path: ca.pem}
`

// Trust anchors follow the cluster's bundles; what cannot be had any more stays as it was.
func TestTrustAnchorsLive(t *testing.T) {
	w := newWorld(t)
	w.sync(parsePod(t, 1, trustVolume))
	w.says(uid(1), model.VolumesAbsent, "the ClusterTrustBundles have not been listed yet")
	w.w.TrustBundles.Set(model.Key{}, &model.TrustBundle{Problem: "the API server serves no ClusterTrustBundles"})
	w.says(uid(1), model.VolumesFailed, "the API server serves no ClusterTrustBundles")
	bundle := func(content string) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte(content)}))
	}
	w.w.TrustBundles.Replace(map[model.Key]*model.TrustBundle{{Name: "anchors"}: {Name: "anchors", Anchors: "text\n" + bundle("one") + bundle("one")}})
	path := filepath.Join(w.ready(uid(1)).HostPaths["ca"], "ca.pem")
	if got := w.read(path); got != bundle("one") {
		t.Errorf("content %q", got)
	}
	w.w.TrustBundles.Set(model.Key{Name: "anchors"}, &model.TrustBundle{Name: "anchors", Anchors: bundle("two")})
	w.look(uid(1))
	if got := w.read(path); got != bundle("two") {
		t.Errorf("content %q", got)
	}
	w.w.TrustBundles.Delete(model.Key{Name: "anchors"})
	w.says(uid(1), model.VolumesReady, `clustertrustbundle "anchors" not found`)
	if got := w.read(path); got != bundle("two") {
		t.Errorf("content %q", got)
	}
}
