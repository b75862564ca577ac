package certs

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"
)

// authority signs what it is asked for, as the API server's signers do it.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate

	validFor time.Duration
	asked    []*certificatesv1.CertificateSigningRequest
	err      error
	denied   string
	subject  string // instead of the one that was asked for
}

func newAuthority(t *testing.T) *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t: t, key: key, validFor: time.Hour, cert: &x509.Certificate{Subject: pkix.Name{CommonName: "cluster"}}}
}

func (a *authority) RequestCertificate(_ context.Context, r *certificatesv1.CertificateSigningRequest) (*certificatesv1.CertificateSigningRequest, error) {
	a.asked = append(a.asked, r)
	if a.err != nil {
		return nil, a.err
	}
	answer := r.DeepCopy()
	if a.denied != "" {
		answer.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{
			Type: certificatesv1.CertificateDenied, Status: corev1.ConditionTrue, Reason: "Unknown", Message: a.denied,
		}}
		return answer, nil
	}
	block, _ := pem.Decode(r.Spec.Request)
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		a.t.Fatal(err)
	}
	if err := request.CheckSignature(); err != nil {
		a.t.Error(err)
	}
	if a.subject != "" {
		request.Subject.CommonName = a.subject
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(int64(len(a.asked))), Subject: request.Subject,
		DNSNames: request.DNSNames, IPAddresses: request.IPAddresses,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(a.validFor),
	}, a.cert, request.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	answer.Status.Certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return answer, nil
}

func newKeeper(t *testing.T, a *authority) *Keeper {
	return &Keeper{
		What: "client certificate", Files: Files{Dir: filepath.Join(t.TempDir(), "pki"), Name: "kubelet-client"},
		Want: func() Want { return Client("node-1") }, Signers: []Signer{a}, Log: slog.New(slog.DiscardHandler),
	}
}

func step(t *testing.T, k *Keeper) time.Duration {
	t.Helper()
	wait, err := k.Step(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return wait
}

func load(t *testing.T, f Files) *x509.Certificate {
	t.Helper()
	c, err := f.Load()
	if err != nil || c == nil {
		t.Fatalf("no certificate: %v", err)
	}
	return c
}

func TestAnIdentityIsAskedForOnceAndKept(t *testing.T) {
	a := newAuthority(t)
	k := newKeeper(t, a)
	if err := k.Get(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := load(t, k.Files)
	if c.Subject.CommonName != "system:node:node-1" || c.Subject.Organization[0] != "system:nodes" || len(c.DNSNames)+len(c.IPAddresses) > 0 {
		t.Errorf("subject %s, names %v %v", c.Subject, c.DNSNames, c.IPAddresses)
	}
	r := a.asked[0]
	if r.Spec.SignerName != "kubernetes.io/kube-apiserver-client-kubelet" || len(r.Spec.Usages) != 2 {
		t.Errorf("asked %s for %v", r.Spec.SignerName, r.Spec.Usages)
	}
	if wait := step(t, k); wait <= 0 || len(a.asked) != 1 {
		t.Errorf("asked %d times, next look in %s", len(a.asked), wait)
	}
	info, err := os.Stat(k.Files.Current())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestRenewedBeforeItEndsAndOldOnesAreForgotten(t *testing.T) {
	a := newAuthority(t)
	k := newKeeper(t, a)
	a.validFor = time.Second // of a minute before: past 90 %
	for round := range 4 {
		if err := k.Files.Save(answer(t, a, k), mustKey(t, k.Files), time.Now().Add(time.Duration(round)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	before := load(t, k.Files)
	a.validFor = time.Hour
	step(t, k)
	if after := load(t, k.Files); after.SerialNumber.Cmp(before.SerialNumber) == 0 {
		t.Error("not renewed")
	}
	files, _ := filepath.Glob(filepath.Join(k.Files.Dir, "*"))
	if len(files) != 3 { // the link, the new one, the one before
		t.Errorf("left: %v", files)
	}
}

// answer asks for what the keeper wants, with the pending key.
func answer(t *testing.T, a *authority, k *Keeper) []byte {
	t.Helper()
	r, err := k.Want().request(mustKey(t, k.Files))
	if err != nil {
		t.Fatal(err)
	}
	out, err := a.RequestCertificate(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return out.Status.Certificate
}

func mustKey(t *testing.T, f Files) *ecdsa.PrivateKey {
	t.Helper()
	key, err := f.key()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// A daemon that is killed while it waits asks for the same again, with the same key.
func TestAKilledDaemonAsksForNothingTwice(t *testing.T) {
	a := newAuthority(t)
	a.err = context.DeadlineExceeded
	k := newKeeper(t, a)
	for range 2 {
		if _, err := k.Step(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
	}
	if a.asked[0].Name != a.asked[1].Name {
		t.Errorf("asked as %s and %s", a.asked[0].Name, a.asked[1].Name)
	}
	a.err = nil
	step(t, k)
	load(t, k.Files)
	a.validFor = -time.Second
	_, _ = k.Step(t.Context())
	if a.asked[2].Name != a.asked[0].Name {
		t.Errorf("the last request was named %s", a.asked[2].Name)
	}
}

func TestADeniedRequestSaysWhyAndIsNotRepeated(t *testing.T) {
	a := newAuthority(t)
	a.denied = "who are you?"
	k := newKeeper(t, a)
	for range 2 {
		if _, err := k.Step(t.Context()); err == nil || !strings.Contains(err.Error(), "who are you?") {
			t.Fatalf("got %v", err)
		}
	}
	if a.asked[0].Name == a.asked[1].Name {
		t.Error("the same request again, whose answer is known")
	}
}

func TestWhatTheSignerChangedIsNotUsed(t *testing.T) {
	a := newAuthority(t)
	k := newKeeper(t, a)
	step(t, k)
	before := load(t, k.Files)
	k.Want = func() Want { return Client("node-2") }
	a.subject = "system:node:other"
	if _, err := k.Step(t.Context()); err == nil || !strings.Contains(err.Error(), `"system:node:other"`) {
		t.Fatalf("got %v", err)
	}
	if after := load(t, k.Files); after.SerialNumber.Cmp(before.SerialNumber) != 0 {
		t.Error("the old one is gone")
	}
}

// The first signer is the node's own identity, which may have ended.
func TestTheSecondSignerHelps(t *testing.T) {
	ended, a := newAuthority(t), newAuthority(t)
	ended.err = errors.New("Unauthorized")
	k := newKeeper(t, a)
	k.Signers = []Signer{ended, a}
	step(t, k)
	load(t, k.Files)
	if len(ended.asked) != 1 || len(a.asked) != 1 {
		t.Errorf("asked %d and %d times", len(ended.asked), len(a.asked))
	}
}

func TestABrokenFileIsReplaced(t *testing.T) {
	a := newAuthority(t)
	k := newKeeper(t, a)
	step(t, k)
	if err := os.WriteFile(k.Files.Current(), []byte("half a certif"), 0o600); err != nil {
		t.Fatal(err)
	}
	step(t, k)
	load(t, k.Files)
}

func TestSelfSignedUntilSomebodySigns(t *testing.T) {
	a := newAuthority(t)
	k := newKeeper(t, a)
	addresses := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}
	k.Want = func() Want { return Serving("node-1", addresses) }
	if err := EnsureSelfSigned(k.Files, k.Want(), time.Now()); err != nil {
		t.Fatal(err)
	}
	own := load(t, k.Files)
	if err := own.VerifyHostname("fd00::1"); err != nil {
		t.Error(err)
	}
	if err := EnsureSelfSigned(k.Files, k.Want(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if again := load(t, k.Files); again.SerialNumber.Cmp(own.SerialNumber) != 0 {
		t.Error("made anew without need")
	}
	step(t, k)
	signed := load(t, k.Files)
	if selfSignedBy(signed) || signed.VerifyHostname("node-1") != nil || a.asked[0].Spec.SignerName != "kubernetes.io/kubelet-serving" {
		t.Errorf("issuer %s, names %v, asked %s", signed.Issuer, signed.DNSNames, a.asked[0].Spec.SignerName)
	}
	// An address that came since.
	addresses = append(addresses, netip.MustParseAddr("10.0.0.2"))
	step(t, k)
	if err := load(t, k.Files).VerifyHostname("10.0.0.2"); err != nil {
		t.Error(err)
	}
}

// A restart must not take a certificate away that the API server trusts.
func TestWhatSomebodySignedStaysUntilThereIsABetterOne(t *testing.T) {
	a := newAuthority(t)
	k := newKeeper(t, a)
	addresses := []netip.Addr{netip.MustParseAddr("10.0.0.1")}
	k.Want = func() Want { return Serving("node-1", addresses) }
	a.validFor = time.Second // soon to be renewed: it began a minute ago
	if err := k.Files.Save(answer(t, a, k), mustKey(t, k.Files), time.Now()); err != nil {
		t.Fatal(err)
	}
	signed := load(t, k.Files)
	for name, ensure := range map[string]func(Files, Want, time.Time) error{"any": EnsureAny, "self-signed": EnsureSelfSigned} {
		if err := ensure(k.Files, k.Want(), signed.NotAfter.Add(-time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if now := load(t, k.Files); !now.Equal(signed) {
			t.Fatalf("%s: replaced", name)
		}
	}
	addresses = append(addresses, netip.MustParseAddr("10.0.0.2"))
	if err := EnsureAny(k.Files, k.Want(), signed.NotAfter.Add(-time.Millisecond)); err != nil || !load(t, k.Files).Equal(signed) {
		t.Fatalf("replaced for a new address: %v", err)
	}
	if err := EnsureAny(k.Files, k.Want(), signed.NotAfter); err != nil || !selfSignedBy(load(t, k.Files)) {
		t.Errorf("it ended and is still shown: %v", err)
	}
}

func TestRenewalIsBetween70And90Percent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &x509.Certificate{
			SerialNumber: big.NewInt(rapid.Int64Min(1).Draw(t, "serial")),
			NotBefore:    time.Unix(rapid.Int64Range(0, 1<<32).Draw(t, "from"), 0),
		}
		life := time.Duration(rapid.Int64Range(int64(time.Minute), int64(20*365*24*time.Hour)).Draw(t, "life"))
		c.NotAfter = c.NotBefore.Add(life)
		part := float64(RenewAt(c).Sub(c.NotBefore)) / float64(life)
		if part < 0.7-1e-9 || part > 0.9+1e-9 || !RenewAt(c).Equal(RenewAt(c)) {
			t.Fatalf("renewed after %.3f of its time", part)
		}
	})
}
