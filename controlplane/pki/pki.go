package pki

import (
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"nodelet/controlplane/durable"
)

// Config says for which cluster keys are wanted.
type Config struct {
	Dir           string       // where the files are
	ClusterDomain string       // cluster.local
	Names         []string     // further DNS names of the API server
	Addresses     []netip.Addr // addresses of the API server besides loopback
	Now           time.Time
	Log           *slog.Logger
}

// Names of the users that the certificates stand for. RBAC knows them: the
// first three are bound by upstream's bootstrap policy, the last by package
// addons.
const (
	UserControllerManager = "system:kube-controller-manager"
	UserScheduler         = "system:kube-scheduler"
	GroupMasters          = "system:masters"
	UserKubeletClient     = "kube-apiserver-kubelet-client"
)

// Cluster is the complete set of a cluster's keys.
type Cluster struct {
	Files
	CA *Authority // signs everything but the front proxy's certificate
}

// Files are the paths inside Config.Dir.
type Files struct {
	CACert, CAKey                           string
	FrontProxyCACert, FrontProxyCAKey       string
	FrontProxyCert, FrontProxyKey           string
	ServiceAccountKey, ServiceAccountPub    string
	APIServerCert, APIServerKey             string
	KubeletClientCert, KubeletClientKey     string
	ControllerManagerCert, ControllerMgrKey string
	SchedulerCert, SchedulerKey             string
}

// Paths returns where Ensure keeps what in dir.
func Paths(dir string) Files {
	in := func(name string) string { return filepath.Join(dir, name) }
	return Files{
		CACert: in("ca.crt"), CAKey: in("ca.key"),
		FrontProxyCACert: in("front-proxy-ca.crt"), FrontProxyCAKey: in("front-proxy-ca.key"),
		FrontProxyCert: in("front-proxy-client.crt"), FrontProxyKey: in("front-proxy-client.key"),
		ServiceAccountKey: in("sa.key"), ServiceAccountPub: in("sa.pub"),
		APIServerCert: in("apiserver.crt"), APIServerKey: in("apiserver.key"),
		KubeletClientCert: in("apiserver-kubelet-client.crt"), KubeletClientKey: in("apiserver-kubelet-client.key"),
		ControllerManagerCert: in("controller-manager.crt"), ControllerMgrKey: in("controller-manager.key"),
		SchedulerCert: in("scheduler.crt"), SchedulerKey: in("scheduler.key"),
	}
}

// Ensure makes what is missing, replaces leaf certificates that no longer fit,
// and leaves everything else alone.
func Ensure(cfg Config) (*Cluster, error) {
	if err := durable.Dir(cfg.Dir, durable.Private); err != nil {
		return nil, err
	}
	f := Paths(cfg.Dir)
	ca, err := ensureAuthority("nodelet-ca", f.CACert, f.CAKey, cfg)
	if err != nil {
		return nil, err
	}
	proxyCA, err := ensureAuthority("nodelet-front-proxy-ca", f.FrontProxyCACert, f.FrontProxyCAKey, cfg)
	if err != nil {
		return nil, err
	}
	if err := ensureServiceAccountKey(f); err != nil {
		return nil, err
	}
	for _, l := range leaves(f, cfg, ca, proxyCA) {
		if err := l.ensure(cfg); err != nil {
			return nil, err
		}
	}
	return &Cluster{Files: f, CA: ca}, nil
}

// Load returns the authority of an existing cluster, for signing offline.
func Load(dir string) (*Authority, error) {
	f := Paths(dir)
	a, err := readAuthority(f.CACert, f.CAKey)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("load cluster authority: %w (start the control plane with this data directory once, or name the right one)", err)
	}
	return a, err
}

type leaf struct {
	authority *Authority
	cert, key string // paths
	request   Request
}

func leaves(f Files, cfg Config, ca, proxyCA *Authority) []leaf {
	return []leaf{
		{ca, f.APIServerCert, f.APIServerKey, serverRequest(cfg)},
		{ca, f.KubeletClientCert, f.KubeletClientKey, Request{CommonName: UserKubeletClient, Client: true}},
		{ca, f.ControllerManagerCert, f.ControllerMgrKey, Request{CommonName: UserControllerManager, Client: true}},
		{ca, f.SchedulerCert, f.SchedulerKey, Request{CommonName: UserScheduler, Client: true}},
		{proxyCA, f.FrontProxyCert, f.FrontProxyKey, Request{CommonName: "front-proxy-client", Client: true}},
	}
}

// serverRequest lists every name under which the API server is reached.
func serverRequest(cfg Config) Request {
	names := []string{
		"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
		"kubernetes.default.svc." + cfg.ClusterDomain,
	}
	addrs := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	for _, a := range cfg.Addresses {
		if !slices.Contains(addrs, a) {
			addrs = append(addrs, a)
		}
	}
	for _, n := range cfg.Names {
		if !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return Request{CommonName: "kube-apiserver", DNSNames: names, Addresses: addrs, Server: true}
}

// ensure keeps the pair on disk if it fits, else writes a new one. The two
// files cannot change in one step; a kill between them leaves a pair that does
// not belong together, which the next ensure sees and replaces.
func (l leaf) ensure(cfg Config) error {
	old, err := readPair(l.cert, l.key)
	if err == nil {
		ok, why := l.authority.Fits(old, l.request, cfg.Now)
		if ok {
			return os.Chmod(l.key, durable.Secret)
		}
		cfg.Log.Info("replacing certificate", "file", l.cert, "why", why)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	p, err := l.authority.Issue(l.request, cfg.Now)
	if err != nil {
		return err
	}
	return WritePair(l.cert, l.key, p)
}

// PairFiles are where a certificate and its key are kept.
type PairFiles struct{ Cert, Key string }

// EnsurePair keeps the pair in the two files if a signed it for r, else writes
// a new one.
func EnsurePair(a *Authority, at PairFiles, r Request, cfg Config) error {
	return leaf{a, at.Cert, at.Key, r}.ensure(cfg)
}

// WritePair writes key and certificate, in that order.
func WritePair(certPath, keyPath string, p Pair) error {
	if err := durable.Write(keyPath, p.Key, durable.Secret); err != nil {
		return err
	}
	return durable.Write(certPath, p.Cert, durable.Public)
}

func readPair(certPath, keyPath string) (Pair, error) {
	cert, err := os.ReadFile(certPath)
	if err != nil {
		return Pair{}, fmt.Errorf("read certificate: %w", err)
	}
	key, err := os.ReadFile(keyPath)
	if err != nil {
		return Pair{}, fmt.Errorf("read key: %w", err)
	}
	return Pair{Cert: cert, Key: key}, nil
}

// ensureAuthority loads a CA or makes it. The key is written first, so a
// certificate without key was damaged by somebody, while a key without
// certificate has signed nothing yet and is completed.
func ensureAuthority(name, certPath, keyPath string, cfg Config) (*Authority, error) {
	a, err := readAuthority(certPath, keyPath)
	if err == nil {
		if left := a.Expires().Sub(cfg.Now); left < renewBefore {
			cfg.Log.Warn("cluster authority ends soon: plan its replacement", "file", certPath, "ends", a.Expires())
		}
		return a, os.Chmod(keyPath, durable.Secret)
	}
	if _, statErr := os.Lstat(certPath); !errors.Is(statErr, fs.ErrNotExist) {
		return nil, fmt.Errorf("load authority: %w (restore %s and %s from a backup: everything in the cluster trusts them, so they are never made anew)", err, certPath, keyPath)
	}
	key, err := ensureKey(keyPath)
	if err != nil {
		return nil, err
	}
	a, err = newAuthority(name, key, cfg.Now)
	if err != nil {
		return nil, err
	}
	return a, durable.Write(certPath, a.pem, durable.Public)
}

func readAuthority(certPath, keyPath string) (*Authority, error) {
	p, err := readPair(certPath, keyPath)
	if err != nil {
		return nil, err
	}
	key, err := parseKey(p.Key)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", keyPath, err)
	}
	a, err := parseAuthority(p.Cert, key)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", certPath, err)
	}
	return a, nil
}

// ensureServiceAccountKey keeps the key that signs pods' tokens. The public
// half is derived, so it may be lost.
func ensureServiceAccountKey(f Files) error {
	key, err := ensureKey(f.ServiceAccountKey)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return fmt.Errorf("encode service-account key: %w", err)
	}
	_, err = durable.WriteIfChanged(f.ServiceAccountPub, encode(pemPublicKey, der), durable.Public)
	return err
}

// ensureKey loads a private key that must never change, or makes it.
func ensureKey(path string) (*ecdsa.PrivateKey, error) {
	data, err := os.ReadFile(path)
	switch {
	case err == nil:
		key, err := parseKey(data)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w (restore it from a backup)", path, err)
		}
		return key, os.Chmod(path, durable.Secret)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read key: %w", err)
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	data, err = encodeKey(key)
	if err != nil {
		return nil, err
	}
	return key, durable.Write(path, data, durable.Secret)
}
