package netns

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
}

func TestCreateDoDelete(t *testing.T) {
	needRoot(t)
	path := filepath.Join(t.TempDir(), "deep", "ns")
	ns, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if !Exists(path) {
		t.Fatal("namespace is not bound")
	}
	home, err := Current()
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	want, _ := ns.ID()
	var inside ID
	sentinel := errors.New("carried out")
	err = ns.Do(func() error {
		cur, err := Open(threadPath)
		if err != nil {
			return err
		}
		defer cur.Close()
		inside, _ = cur.ID()
		return sentinel
	})
	if !errors.Is(err, sentinel) {
		t.Fatalf("Do returned %v", err)
	}
	homeID, _ := home.ID()
	if inside != want || inside == homeID {
		t.Fatalf("ran in %v, want %v, home is %v", inside, want, homeID)
	}
	if _, err := Create(path); err == nil {
		t.Fatal("created the same namespace twice")
	}
	for range 2 { // deleting twice is fine
		if err := Delete(path); err != nil {
			t.Fatal(err)
		}
	}
	if Exists(path) {
		t.Fatal("namespace is still bound")
	}
	if _, err := Open(path); !errors.Is(err, ErrNotFound) {
		t.Fatalf("open of a deleted namespace: %v", err)
	}
}

func TestOpenPlainFileIsNotFound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "left-over")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); !errors.Is(err, ErrNotFound) {
		t.Fatalf("got %v, want ErrNotFound", err)
	}
}

func TestThreadsComeHome(t *testing.T) {
	needRoot(t)
	home, err := Current()
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	want, _ := home.ID()
	ns, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	for range 50 {
		if err := ns.Do(func() error { return nil }); err != nil {
			t.Fatal(err)
		}
		cur, err := Current()
		if err != nil {
			t.Fatal(err)
		}
		got, _ := cur.ID()
		_ = cur.Close()
		if got != want {
			t.Fatalf("a thread stayed in %v", got)
		}
	}
}
