package certs

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"time"
)

// selfSignedFor is how long a certificate of our own is valid; upstream's is as well.
const selfSignedFor = 365 * 24 * time.Hour

// EnsureSelfSigned makes a serving certificate that nobody signed, where there is none that fits: the
// API server takes it unless it was told by whom those of kubelets must be signed. One that somebody
// signed is kept to its end.
func EnsureSelfSigned(f Files, want Want, now time.Time) error {
	current, err := f.Load()
	if err == nil && current != nil && want.Unfit(current, now) == "" && (!selfSignedBy(current) || now.Before(RenewAt(current))) {
		return nil // one that cannot be read is replaced
	}
	return makeSelfSigned(f, want, now)
}

// EnsureAny makes such a certificate only where there is none that can still be shown: a Keeper gets a
// better one, and until then one that somebody signed for fewer names is worth more.
func EnsureAny(f Files, want Want, now time.Time) error {
	if current, err := f.Load(); err == nil && current != nil && now.Before(current.NotAfter) {
		return nil
	}
	return makeSelfSigned(f, want, now)
}

func makeSelfSigned(f Files, want Want, now time.Time) error {
	key, err := f.key()
	if err != nil {
		return err
	}
	certificate, err := selfSigned(want, key, now)
	if err != nil {
		return err
	}
	return f.Save(certificate, key, now)
}

// KeepSelfSigned keeps such a certificate fresh until ctx ends.
func KeepSelfSigned(ctx context.Context, f Files, want func() Want, log *slog.Logger) error {
	for {
		if err := EnsureSelfSigned(f, want(), time.Now()); err != nil {
			log.Error("renew the serving certificate", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(longest):
		}
	}
}

func selfSignedBy(c *x509.Certificate) bool { return bytes.Equal(c.RawIssuer, c.RawSubject) }

func selfSigned(want Want, key *ecdsa.PrivateKey, now time.Time) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make serial number: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: want.CommonName, Organization: want.Organizations},
		NotBefore:    now.Add(-time.Hour), // clocks of clients differ
		NotAfter:     now.Add(selfSignedFor),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     want.DNSNames,
	}
	for _, a := range want.Addresses {
		template.IPAddresses = append(template.IPAddresses, net.IP(a.AsSlice()))
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
