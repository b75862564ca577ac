package certs

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/internal/reconcile"
)

// Signer passes a request on and waits for what becomes of it: a certificate, or a condition that says
// why there will be none. A request of that name that is there already is taken up. *kube.Client does.
type Signer interface {
	RequestCertificate(context.Context, *certificatesv1.CertificateSigningRequest) (*certificatesv1.CertificateSigningRequest, error)
}

// Keeper keeps one certificate.
type Keeper struct {
	// What it is, for messages: "client certificate".
	What  string
	Files Files
	// Want is what it must be now.
	Want func() Want
	// Signers are asked in order, until one serves: the node's own identity first, then others
	// that help when it has none any more.
	Signers []Signer
	Log     *slog.Logger
}

const (
	// patience is how long one request waits for its answer before it is looked at again.
	patience = 15 * time.Minute
	// tellAfter is how long it waits before it is said that somebody must approve it.
	tellAfter = 15 * time.Second
	// longest is how long nothing is looked at: clocks jump, and wishes change.
	longest = time.Minute
)

// Run keeps the certificate fresh until ctx ends. What goes wrong is logged and tried again.
func (k *Keeper) Run(ctx context.Context) error {
	k.loop(ctx, func() bool { return false })
	return nil
}

// Get returns as soon as there is a certificate that fits. What goes wrong is logged and tried again;
// only the end of ctx is an error.
func (k *Keeper) Get(ctx context.Context) error {
	k.loop(ctx, func() bool {
		current, err := k.Files.Load()
		return err == nil && current != nil && k.Want().Unfit(current, time.Now()) == ""
	})
	return ctx.Err()
}

func (k *Keeper) loop(ctx context.Context, enough func() bool) {
	backoff := reconcile.Backoff{Min: time.Second, Max: 5 * time.Minute}
	for failures := 0; !enough(); {
		wait, err := k.Step(ctx)
		if failures++; err == nil {
			failures = 0
		} else if ctx.Err() == nil {
			wait = backoff.After(failures)
			k.Log.Error("get a "+k.What, "err", err, "next", wait)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// Step sees to it that there is a certificate that fits and does not end soon, and says after which
// time to look again.
func (k *Keeper) Step(ctx context.Context) (time.Duration, error) {
	want, now := k.Want(), time.Now()
	current, err := k.Files.Load()
	var why string
	switch {
	case err != nil:
		why = err.Error()
	case current == nil:
		why = "there is none yet"
	case selfSignedBy(current):
		why = "nobody signed it"
	default:
		why = want.Unfit(current, now)
		if until := RenewAt(current).Sub(now); why == "" && until > 0 {
			return min(until, longest), nil
		}
	}
	k.Log.Info("asking for a new "+k.What, "why", cmp.Or(why, "the old one ends soon"))
	certificate, key, err := k.request(ctx, want)
	if err != nil {
		return 0, err
	}
	if err := k.check(certificate, want, now); err != nil {
		return 0, errors.Join(err, k.Files.dropPending())
	}
	if err := k.Files.Save(certificate, key, now); err != nil {
		return 0, err
	}
	k.Log.Info("new "+k.What, "file", k.Files.Current())
	return 0, nil
}

// check looks at what the signer gave: it may sign something else than it was asked.
func (k *Keeper) check(certificate []byte, want Want, now time.Time) error {
	block, _ := pem.Decode(certificate)
	if block == nil {
		return errors.New("the signer's answer is no certificate")
	}
	parsed, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return fmt.Errorf("read the signer's answer: %w", err)
	}
	if why := want.Unfit(parsed, now); why != "" {
		return fmt.Errorf("the signer's certificate is of no use: %s", why)
	}
	return nil
}

func (k *Keeper) request(ctx context.Context, want Want) ([]byte, *ecdsa.PrivateKey, error) {
	key, err := k.Files.key()
	if err != nil {
		return nil, nil, err
	}
	r, err := want.request(key)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tell := time.AfterFunc(tellAfter, func() {
		k.Log.Warn("the request for the "+k.What+" waits to be approved",
			"request", r.Name, "approve", "kubectl certificate approve "+r.Name)
	})
	defer tell.Stop()
	var errs []error
	for _, signer := range k.Signers {
		answer, err := signer.RequestCertificate(ctx, r)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if len(answer.Status.Certificate) == 0 {
			// The next request is another one: the answer to this one is known.
			return nil, nil, errors.Join(refusal(answer), k.Files.dropPending())
		}
		return answer.Status.Certificate, key, nil
	}
	return nil, nil, errors.Join(errs...)
}

// refusal is what the conditions say.
func refusal(r *certificatesv1.CertificateSigningRequest) error {
	var errs []error
	for _, c := range r.Status.Conditions {
		errs = append(errs, fmt.Errorf("certificate request %s: %s: %s: %s", r.Name, c.Type, c.Reason, c.Message))
	}
	return errors.Join(errs...)
}

// request is the wish as the API server is asked for it.
func (w Want) request(key *ecdsa.PrivateKey) (*certificatesv1.CertificateSigningRequest, error) {
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	template := &x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: w.CommonName, Organization: w.Organizations},
		DNSNames: w.DNSNames,
	}
	for _, a := range w.Addresses {
		template.IPAddresses = append(template.IPAddresses, net.IP(a.AsSlice()))
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	return &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: w.requestName(public)},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			SignerName: w.Signer, Usages: w.Usages(),
			Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
		},
	}, nil
}
