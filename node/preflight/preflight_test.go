package preflight

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckNamesEverythingAtOnce(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	dir := t.TempDir()
	version := filepath.Join(dir, "version")
	if err := os.WriteFile(version, []byte("99\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err = Check(Config{
		DataDir: dir, VersionFile: version,
		Ports:     []Port{{uint16(l.Addr().(*net.TCPAddr).Port), "the kubelet API", "--kubelet-port"}},
		Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("192.0.2.77")},
		Programs:  map[string]string{"no-such-program": "some-package"},
		Files:     map[string]string{"/no/such/file": "run make build"},
	})
	if err == nil {
		t.Fatal("nothing found")
	}
	for _, want := range []string{
		"format 99", "--data-dir", "apt-get install some-package", "/no/such/file is not there: run make build",
		"has not the address 192.0.2.77", "the kubelet API", "preflight.test (pid", "--kubelet-port",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "has not the address 127.0.0.1") {
		t.Errorf("the machine has that address:\n%v", err)
	}
}

func TestDataVersion(t *testing.T) {
	dir := t.TempDir()
	c := Config{DataDir: dir, VersionFile: filepath.Join(dir, "sub", "version")}
	if err := dataVersion(c); err != nil {
		t.Fatalf("fresh directory: %v", err)
	}
	for range 2 {
		if err := WriteDataVersion(c.VersionFile); err != nil {
			t.Fatal(err)
		}
	}
	if err := dataVersion(c); err != nil {
		t.Fatalf("own version: %v", err)
	}
	if err := os.WriteFile(c.VersionFile, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := dataVersion(c); err == nil {
		t.Fatal("garbage accepted")
	}
}
