package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"time"
)

const (
	// authorityLife is how long a CA is good. Replacing one needs every client
	// to be told, so it is as long as other distributions make it.
	authorityLife = 10 * 365 * 24 * time.Hour
	// leafLife is how long everything else is good.
	leafLife = 365 * 24 * time.Hour
	// renewBefore the end of its life a leaf is replaced: long enough that a
	// control plane restarted only every few months still renews in time.
	renewBefore = 120 * 24 * time.Hour
	// backdate lets certificates be used by machines whose clock is behind.
	backdate = time.Hour
)

const (
	pemCertificate = "CERTIFICATE"
	pemPrivateKey  = "PRIVATE KEY" // PKCS #8
	pemPublicKey   = "PUBLIC KEY"  // PKIX
)

// Authority is a CA that can sign.
type Authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte
}

// Request says what a leaf certificate is for.
type Request struct {
	CommonName    string
	Organizations []string
	DNSNames      []string
	Addresses     []netip.Addr
	Server        bool // may be shown by a server
	Client        bool // may be shown by a client
}

// Pair is a certificate with its private key, both PEM.
type Pair struct {
	Cert, Key []byte
}

// PEM returns the CA's certificate.
func (a *Authority) PEM() []byte { return slices.Clone(a.pem) }

// Expires returns the end of the CA's life.
func (a *Authority) Expires() time.Time { return a.cert.NotAfter }

// newAuthority makes a self-signed CA around key.
func newAuthority(name string, key crypto.Signer, now time.Time) (*Authority, error) {
	serial, err := serialNumber()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: name},
		DNSNames:              []string{name},
		NotBefore:             now.Add(-backdate).UTC(),
		NotAfter:              now.Add(authorityLife).UTC(),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign authority %q: %w", name, err)
	}
	return parseAuthority(encode(pemCertificate, der), key)
}

// parseAuthority joins a CA certificate and its key and checks that they belong
// together.
func parseAuthority(certPEM []byte, key crypto.Signer) (*Authority, error) {
	cert, err := parseCert(certPEM)
	if err != nil {
		return nil, err
	}
	if !cert.IsCA {
		return nil, errors.New("certificate is not one of an authority")
	}
	public, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(key.Public()) {
		return nil, errors.New("certificate and key do not belong together")
	}
	return &Authority{cert: cert, key: key, pem: certPEM}, nil
}

// Issue signs a new certificate over a new key.
func (a *Authority) Issue(r Request, now time.Time) (Pair, error) {
	key, err := newKey()
	if err != nil {
		return Pair{}, err
	}
	serial, err := serialNumber()
	if err != nil {
		return Pair{}, err
	}
	end := now.Add(leafLife)
	if end.After(a.cert.NotAfter) {
		end = a.cert.NotAfter
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: r.CommonName, Organization: r.Organizations},
		DNSNames:              r.DNSNames,
		IPAddresses:           netIPs(r.Addresses),
		NotBefore:             now.Add(-backdate).UTC(),
		NotAfter:              end.UTC(),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           r.usages(),
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return Pair{}, fmt.Errorf("sign certificate for %q: %w", r.CommonName, err)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return Pair{}, err
	}
	return Pair{Cert: encode(pemCertificate, der), Key: keyPEM}, nil
}

// Fits tells whether p still answers r: signed by this authority, for the same
// subject, usages, names and addresses, with its own key, and not near its end.
// The reason for a no is for the log.
func (a *Authority) Fits(p Pair, r Request, now time.Time) (bool, string) {
	cert, err := parseCert(p.Cert)
	if err != nil {
		return false, err.Error()
	}
	key, err := parseKey(p.Key)
	if err != nil {
		return false, err.Error()
	}
	public, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok || !public.Equal(key.Public()) {
		return false, "certificate and key do not belong together"
	}
	if err := cert.CheckSignatureFrom(a.cert); err != nil {
		return false, "signed by another authority"
	}
	renewAt := cert.NotAfter.Add(-renewBefore)
	// What the authority's own end cuts short cannot be made longer.
	if now.After(renewAt) && cert.NotAfter.Before(a.cert.NotAfter) {
		return false, "ends " + cert.NotAfter.Format(time.DateOnly)
	}
	if now.Before(cert.NotBefore) {
		return false, "begins only " + cert.NotBefore.Format(time.RFC3339)
	}
	return r.matches(cert)
}

func (r Request) matches(cert *x509.Certificate) (bool, string) {
	switch {
	case cert.Subject.CommonName != r.CommonName,
		!sameSet(cert.Subject.Organization, r.Organizations):
		return false, "subject changed"
	case !slices.Equal(cert.ExtKeyUsage, r.usages()):
		return false, "usages changed"
	case !sameSet(cert.DNSNames, r.DNSNames):
		return false, "DNS names changed"
	case !sameSet(addressStrings(cert.IPAddresses), addressStrings(netIPs(r.Addresses))):
		return false, "addresses changed"
	}
	return true, ""
}

func (r Request) usages() []x509.ExtKeyUsage {
	var u []x509.ExtKeyUsage
	if r.Server {
		u = append(u, x509.ExtKeyUsageServerAuth)
	}
	if r.Client {
		u = append(u, x509.ExtKeyUsageClientAuth)
	}
	return u
}

func newKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	return key, nil
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return encode(pemPrivateKey, der), nil
}

func parseKey(data []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != pemPrivateKey {
		return nil, errors.New("no private key in PEM form")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parse private key: %w", err)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("private key is %T, want ECDSA", key)
	}
	return ec, nil
}

func parseCert(data []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != pemCertificate {
		return nil, errors.New("no certificate in PEM form")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parse certificate: %w", err)
	}
	return cert, nil
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// serialNumber is random with 127 bits, as CAs must not repeat one and no
// counter is kept.
func serialNumber() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("generate serial number: %w", err)
	}
	return n.Add(n, big.NewInt(1)), nil
}

func netIPs(addrs []netip.Addr) []net.IP {
	ips := make([]net.IP, 0, len(addrs))
	for _, a := range addrs {
		ips = append(ips, a.Unmap().AsSlice())
	}
	return ips
}

func addressStrings(ips []net.IP) []string {
	s := make([]string, 0, len(ips))
	for _, ip := range ips {
		s = append(s, ip.String())
	}
	return s
}

func sameSet(a, b []string) bool {
	unique := func(s []string) []string {
		s = slices.Clone(s)
		slices.Sort(s)
		return slices.Compact(s)
	}
	return slices.Equal(unique(a), unique(b))
}
