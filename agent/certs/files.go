package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"
)

// Files keep one pair of certificate and key below a directory, in upstream's names: each pair in a file
// of its own, NAME-<time>.pem, and NAME-current.pem a link to the one in use.
type Files struct {
	Dir, Name string
}

// Current is the path of the pair in use: the certificate first, then the key.
func (f Files) Current() string { return filepath.Join(f.Dir, f.Name+"-current.pem") }

// pending is the key of a request that is not answered yet.
func (f Files) pending() string { return filepath.Join(f.Dir, f.Name+".key.tmp") }

// Load reads the pair in use, or nil when there is none. A file without a certificate, or with a key
// that does not belong to it, is an error.
func (f Files) Load() (*x509.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(f.Current(), f.Current())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Current(), err)
	}
	return pair.Leaf, nil
}

// TTL is how many seconds the pair in use is valid for; infinite when there is none.
func (f Files) TTL() float64 {
	current, err := f.Load()
	if err != nil || current == nil {
		return math.Inf(1)
	}
	return time.Until(current.NotAfter).Seconds()
}

// Save puts a new pair in the place of the one in use, which is kept beside it until the next one comes.
// The pending key is forgotten.
func (f Files) Save(certificate []byte, key *ecdsa.PrivateKey, now time.Time) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode key: %w", err)
	}
	data := bytes.Join([][]byte{bytes.TrimSpace(certificate), encodeKey(der)}, []byte("\n"))
	if _, err := tls.X509KeyPair(data, data); err != nil {
		return fmt.Errorf("the signer's answer does not fit the key: %w", err)
	}
	file := f.Name + "-" + now.UTC().Format("2006-01-02-15-04-05") + ".pem"
	before, _ := os.Readlink(f.Current())
	if err := writeSynced(filepath.Join(f.Dir, file), data); err != nil {
		return fmt.Errorf("save certificate: %w", err)
	}
	link := f.Current() + ".new"
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("save certificate: %w", err)
	}
	if err := errors.Join(os.Symlink(file, link), os.Rename(link, f.Current())); err != nil {
		return fmt.Errorf("save certificate: %w", err)
	}
	f.forget(file, before)
	return f.dropPending()
}

// forget removes all pairs but the one in use and the one before.
func (f Files) forget(current, before string) {
	old, _ := filepath.Glob(filepath.Join(f.Dir, f.Name+"-[0-9]*.pem"))
	for _, path := range old {
		if name := filepath.Base(path); name != current && name != before {
			_ = os.Remove(path) // it does no harm
		}
	}
}

// key gives the key of the request that waits for its answer, a new one when there is none.
func (f Files) key() (*ecdsa.PrivateKey, error) {
	if data, err := os.ReadFile(f.pending()); err == nil {
		if block, _ := pem.Decode(data); block != nil {
			if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
				return key, nil
			}
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	if err := os.MkdirAll(f.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("keep key: %w", err)
	}
	if err := writeSynced(f.pending(), encodeKey(der)); err != nil {
		return nil, fmt.Errorf("keep key: %w", err)
	}
	return key, nil
}

func (f Files) dropPending() error {
	if err := os.Remove(f.pending()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget key: %w", err)
	}
	return nil
}

func encodeKey(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}

// writeSynced writes a file for root alone, on the disk before it has its name.
func writeSynced(path string, data []byte) error {
	temp, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temp.Name()) }() // after the rename there is none
	_, err = temp.Write(data)
	if err := errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return err
	}
	return os.Rename(temp.Name(), path)
}
