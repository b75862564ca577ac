package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// recheck is how often the certificate files are looked at, at most: a handshake asks each time.
const recheck = time.Second

// certificates are the files of the serving certificate and of the client CA, read again when they
// change. What cannot be read leaves what was read before in place.
type certificates struct {
	cfg Config
	log *slog.Logger

	mu      sync.Mutex
	checked time.Time
	stamps  [3]stamp
	current *tls.Config
	clients *x509.CertPool // nil: no client certificates
}

// stamp tells one version of a file from another.
type stamp struct {
	modified time.Time
	size     int64
	inode    os.FileInfo
}

func stampOf(file string) (stamp, error) {
	if file == "" {
		return stamp{}, nil
	}
	info, err := os.Stat(file)
	if err != nil {
		return stamp{}, err
	}
	return stamp{modified: info.ModTime(), size: info.Size(), inode: info}, nil
}

func (a stamp) same(b stamp) bool {
	if a.inode == nil || b.inode == nil {
		return a.inode == b.inode
	}
	return a.size == b.size && a.modified.Equal(b.modified) && os.SameFile(a.inode, b.inode)
}

func newCertificates(cfg Config, log *slog.Logger) (*certificates, error) {
	c := &certificates{cfg: cfg, log: log}
	if err := c.read(); err != nil {
		return nil, fmt.Errorf("kubelet API: %w", err)
	}
	return c, nil
}

// read reads all files anew if one of them changed; c.mu is held, or nobody else knows c yet.
func (c *certificates) read() error {
	var stamps [3]stamp
	changed := c.current == nil
	for i, file := range []string{c.cfg.CertFile, c.cfg.KeyFile, c.cfg.ClientCAFile} {
		s, err := stampOf(file)
		if err != nil {
			return err
		}
		stamps[i] = s
		changed = changed || !s.same(c.stamps[i])
	}
	if !changed {
		return nil
	}
	cert, err := tls.LoadX509KeyPair(c.cfg.CertFile, c.cfg.KeyFile)
	if err != nil {
		return fmt.Errorf("read serving certificate: %w", err)
	}
	var pool *x509.CertPool
	if c.cfg.ClientCAFile != "" {
		pem, err := os.ReadFile(c.cfg.ClientCAFile)
		if err != nil {
			return fmt.Errorf("read client CA: %w", err)
		}
		pool = x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return fmt.Errorf("read client CA: no certificate in %s", c.cfg.ClientCAFile)
		}
	}
	c.current, c.clients, c.stamps = c.tls(cert, pool), pool, stamps
	return nil
}

func (c *certificates) tls(cert tls.Certificate, pool *x509.CertPool) *tls.Config {
	t := &tls.Config{
		Certificates: []tls.Certificate{cert},
		MinVersion:   max(c.cfg.MinVersion, tls.VersionTLS12),
		CipherSuites: c.cfg.CipherSuites,
		NextProtos:   []string{"http/1.1"},
	}
	if pool != nil {
		// Asked for, not demanded: who has none may come with a token. authenticate verifies it.
		t.ClientAuth, t.ClientCAs = tls.RequestClientCert, pool
	}
	return t
}

// config is for a listener; each handshake gets what the files hold at that time.
func (c *certificates) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			t, _ := c.get()
			return t, nil
		},
	}
}

func (c *certificates) get() (*tls.Config, *x509.CertPool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.checked) >= recheck {
		c.checked = now
		if err := c.read(); err != nil {
			c.log.Error("kubelet API: read certificates again, going on with the old ones", "err", err)
		}
	}
	return c.current, c.clients
}

// verify verifies a client certificate by the CA of now.
func (c *certificates) verify(state *tls.ConnectionState) (*x509.Certificate, error) {
	if state == nil || len(state.PeerCertificates) == 0 {
		return nil, nil
	}
	_, roots := c.get()
	if roots == nil {
		return nil, errors.New("no client CA is configured")
	}
	opts := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, cert := range state.PeerCertificates[1:] {
		opts.Intermediates.AddCert(cert)
	}
	if _, err := state.PeerCertificates[0].Verify(opts); err != nil {
		return nil, err
	}
	return state.PeerCertificates[0], nil
}
