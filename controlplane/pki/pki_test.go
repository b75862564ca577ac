package pki

import (
	"bytes"
	"crypto/x509"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var begin = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func testConfig(t *testing.T) Config {
	t.Helper()
	return Config{
		Dir: filepath.Join(t.TempDir(), "pki"), ClusterDomain: "cluster.local",
		Names:     []string{"box.example.org"},
		Addresses: []netip.Addr{netip.MustParseAddr("10.77.0.1"), netip.MustParseAddr("10.96.0.1")},
		Now:       begin, Log: slog.New(slog.DiscardHandler),
	}
}

// content returns every file of dir.
func content(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		files[filepath.Base(path)] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func changed(before, after map[string]string) []string {
	var names []string
	for name := range after {
		if before[name] != after[name] {
			names = append(names, name)
		}
	}
	return names
}

func mustEnsure(t *testing.T, cfg Config) *Cluster {
	t.Helper()
	c, err := Ensure(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestServerCertificateNames(t *testing.T) {
	c := mustEnsure(t, testConfig(t))
	data, err := os.ReadFile(c.APIServerCert)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := parseCert(data)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(c.CA.PEM())
	for _, name := range []string{
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
		"localhost", "127.0.0.1", "::1", "10.77.0.1", "10.96.0.1", "box.example.org",
	} {
		_, err := cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: begin})
		if err != nil {
			t.Errorf("certificate for %s: %v", name, err)
		}
	}
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: "evil.example.org", CurrentTime: begin}); err == nil {
		t.Error("certificate is good for a name nobody asked for")
	}
}

func TestModes(t *testing.T) {
	cfg := testConfig(t)
	mustEnsure(t, cfg)
	key := filepath.Join(cfg.Dir, "ca.key")
	if err := os.Chmod(key, 0o644); err != nil { // by a careless backup
		t.Fatal(err)
	}
	mustEnsure(t, cfg)
	entries, err := os.ReadDir(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 16 {
		t.Errorf("%d files, want 16", len(entries))
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		want := fs.FileMode(0o644)
		if strings.HasSuffix(e.Name(), ".key") {
			want = 0o600
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", e.Name(), info.Mode(), want)
		}
	}
	if info, err := os.Stat(cfg.Dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder: %v %v, want 0700", info.Mode(), err)
	}
}

func TestReuse(t *testing.T) {
	cfg := testConfig(t)
	mustEnsure(t, cfg)
	before := content(t, cfg.Dir)
	cfg.Now = begin.Add(100 * 24 * time.Hour)
	mustEnsure(t, cfg)
	if c := changed(before, content(t, cfg.Dir)); len(c) > 0 {
		t.Errorf("a second start changed %v", c)
	}
}

func TestReissue(t *testing.T) {
	permanent := []string{"ca.crt", "ca.key", "front-proxy-ca.crt", "front-proxy-ca.key", "sa.key", "sa.pub"}
	for _, tc := range []struct {
		name    string
		disturb func(t *testing.T, cfg *Config)
		want    []string // must change; "leaves" is all but the permanent ones
	}{
		{"address changed", func(_ *testing.T, cfg *Config) {
			cfg.Addresses[0] = netip.MustParseAddr("10.77.0.9")
		}, []string{"apiserver.crt", "apiserver.key"}},
		{"name added", func(_ *testing.T, cfg *Config) {
			cfg.Names = append(cfg.Names, "other.example.org")
		}, []string{"apiserver.crt", "apiserver.key"}},
		{"near the end", func(_ *testing.T, cfg *Config) {
			cfg.Now = begin.Add(leafLife - renewBefore + time.Hour)
		}, []string{"leaves"}},
		{"clock went back", func(_ *testing.T, cfg *Config) {
			cfg.Now = begin.Add(-48 * time.Hour)
		}, []string{"leaves"}},
		{"killed between key and certificate", func(t *testing.T, cfg *Config) {
			other, err := newKey()
			if err != nil {
				t.Fatal(err)
			}
			data, err := encodeKey(other)
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(cfg.Dir, "scheduler.key"), data)
		}, []string{"scheduler.crt", "scheduler.key"}},
		{"empty certificate", func(t *testing.T, cfg *Config) {
			write(t, filepath.Join(cfg.Dir, "apiserver.crt"), nil)
		}, []string{"apiserver.crt", "apiserver.key"}},
		{"public key lost", func(t *testing.T, cfg *Config) {
			if err := os.Remove(filepath.Join(cfg.Dir, "sa.pub")); err != nil {
				t.Fatal(err)
			}
		}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := testConfig(t)
			mustEnsure(t, cfg)
			before := content(t, cfg.Dir)
			tc.disturb(t, &cfg)
			mustEnsure(t, cfg)
			after := content(t, cfg.Dir)
			for _, name := range permanent {
				if before[name] != after[name] {
					t.Errorf("%s was replaced", name)
				}
			}
			got := changed(before, after)
			want := len(tc.want)
			if want == 1 {
				want = len(after) - len(permanent)
			}
			if len(got) != want {
				t.Errorf("changed %v, want %v", got, tc.want)
			}
		})
	}
}

// A first start may be killed after any file: whatever exists then, the next
// start completes it.
func TestKilledWhileMaking(t *testing.T) {
	cfg := testConfig(t)
	mustEnsure(t, cfg)
	whole := content(t, cfg.Dir)
	order := []string{"ca.key", "ca.crt", "front-proxy-ca.key", "front-proxy-ca.crt", "sa.key", "sa.pub",
		"apiserver.key", "apiserver.crt", "scheduler.key", "scheduler.crt"}
	for n := range order {
		cfg := testConfig(t)
		if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for _, name := range order[:n] {
			write(t, filepath.Join(cfg.Dir, name), []byte(whole[name]))
		}
		write(t, filepath.Join(cfg.Dir, order[n]+".tmp"), []byte("half"))
		mustEnsure(t, cfg)
		after := content(t, cfg.Dir)
		for i, name := range order[:n] {
			partner := i%2 == 0 && i == n-1 // a key whose certificate was not written
			if after[name] != whole[name] && !partner {
				t.Errorf("killed at %s: %s was replaced", order[n], name)
			}
		}
		if strings.HasSuffix(order[n], ".crt") && strings.Contains(order[n], "ca") && after[order[n-1]] != whole[order[n-1]] {
			t.Errorf("killed at %s: the authority's key was replaced", order[n])
		}
	}
}

func TestDamagedAuthority(t *testing.T) {
	for _, file := range []string{"ca.crt", "ca.key", "sa.key"} {
		cfg := testConfig(t)
		mustEnsure(t, cfg)
		write(t, filepath.Join(cfg.Dir, file), []byte("garbage"))
		_, err := Ensure(cfg)
		if err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "restore") {
			t.Errorf("damaged %s: error %v names neither the file nor the way out", file, err)
		}
	}
	cfg := testConfig(t)
	mustEnsure(t, cfg)
	if err := os.Remove(filepath.Join(cfg.Dir, "ca.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := Ensure(cfg); err == nil {
		t.Error("a lost ca.key was replaced in silence")
	}
}

func TestLoad(t *testing.T) {
	cfg := testConfig(t)
	if _, err := Load(cfg.Dir); err == nil || !strings.Contains(err.Error(), "start the control plane") {
		t.Errorf("load from nowhere: %v", err)
	}
	c := mustEnsure(t, cfg)
	a, err := Load(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.PEM(), c.CA.PEM()) {
		t.Error("another authority was loaded")
	}
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
