package file

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"nodelet/cni/ipam"
)

var ranges = []netip.Prefix{netip.MustParsePrefix("10.244.3.0/24")}

func add(veth string) func(ipam.State) (ipam.State, error) {
	return func(s ipam.State) (ipam.State, error) {
		s, _, err := ipam.Allocate(s, ranges, ipam.Lease{Veth: veth})
		return s, err
	}
}

func leases(t *testing.T, d Dir) []ipam.Lease {
	t.Helper()
	s, err := d.View()
	if err != nil {
		t.Fatal(err)
	}
	return s.Leases
}

func TestManyWritersAtOnce(t *testing.T) {
	d := Dir{Path: filepath.Join(t.TempDir(), "state")}
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			if err := d.Update(add(fmt.Sprintf("veth%d", i))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	seen := map[netip.Addr]bool{}
	for _, l := range leases(t, d) {
		seen[l.Addrs[0]] = true
	}
	if len(seen) != 100 {
		t.Fatalf("%d different addresses, want 100", len(seen))
	}
	st, err := os.Stat(filepath.Join(d.Path, stateName))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("mode of the state file: %v %v", st.Mode(), err)
	}
}

func TestFailedChangeLeavesState(t *testing.T) {
	d := Dir{Path: t.TempDir()}
	if err := d.Update(add("a")); err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	if err := d.Update(func(s ipam.State) (ipam.State, error) { s.Leases = nil; return s, boom }); !errors.Is(err, boom) {
		t.Fatal(err)
	}
	if n := len(leases(t, d)); n != 1 {
		t.Fatalf("%d leases", n)
	}
}

func TestEarlierBootIsForgotten(t *testing.T) {
	d := Dir{Path: t.TempDir()}
	old := ipam.State{Boot: "earlier", Leases: []ipam.Lease{{Veth: "old"}}}
	text, err := old.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.Path, stateName), text, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := leases(t, d); len(got) != 0 {
		t.Fatalf("got %v", got)
	}
	if err := d.Update(add("new")); err != nil {
		t.Fatal(err)
	}
	if got := leases(t, d); len(got) != 1 || got[0].Veth != "new" {
		t.Fatalf("got %v", got)
	}
}

// A file cut at any byte is the state before the change that was cut; cut in
// the first line, it is rebuilt from what the kernel knows.
func TestTornFile(t *testing.T) {
	d := Dir{Path: t.TempDir()}
	for _, v := range []string{"a", "b"} {
		if err := d.Update(add(v)); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(d.Path, stateName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head := strings.IndexByte(string(whole), '\n')
	d.Seed = func() ([]ipam.Lease, error) {
		return []ipam.Lease{{Veth: "a", Addrs: []netip.Addr{netip.MustParseAddr("10.244.3.1")}}}, nil
	}
	for cut := range len(whole) {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		want := strings.Count(string(whole[:cut]), "\nlease\t")
		if !strings.HasSuffix(string(whole[:cut]), "\n") && strings.LastIndex(string(whole[:cut]), "\nlease\t") == strings.LastIndex(string(whole[:cut]), "\n") && want > 0 {
			want--
		}
		if cut <= head {
			want = 1
		}
		damaged := false
		d.Damaged = func(string, error) { damaged = true }
		if err := d.Update(add("c")); err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		got := leases(t, d)
		if damaged != (cut <= head) || len(got) != want+1 || got[len(got)-1].Veth != "c" {
			t.Fatalf("cut at %d (%q): damaged %v, leases %v, want %d and c", cut, whole[:cut], damaged, got, want)
		}
		if err := d.Update(add("d")); err != nil || len(leases(t, d)) != want+2 {
			t.Fatalf("cut at %d: after another change: %v %v", cut, err, leases(t, d))
		}
	}
}

func TestHistoryIsBounded(t *testing.T) {
	d := Dir{Path: t.TempDir()}
	for i := range 500 {
		veth := fmt.Sprintf("veth%d", i)
		if err := d.Update(add(veth)); err != nil {
			t.Fatal(err)
		}
		if err := d.Update(func(s ipam.State) (ipam.State, error) { s, _ = ipam.Release(s, veth); return s, nil }); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(filepath.Join(d.Path, stateName))
	if err != nil || strings.Count(string(text), "\n") > historyLines+10 || len(leases(t, d)) != 0 {
		t.Fatalf("%v: %d lines", err, strings.Count(string(text), "\n"))
	}
}

// TestKilledHolder: the kernel gives back the lock of a process that was killed.
func TestKilledHolder(t *testing.T) {
	if os.Getenv("HOLD_LOCK_IN") != "" {
		_ = Dir{Path: os.Getenv("HOLD_LOCK_IN")}.Update(func(s ipam.State) (ipam.State, error) {
			fmt.Println("locked")
			select {}
		})
		return
	}
	d := Dir{Path: t.TempDir()}
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledHolder$")
	cmd.Env = append(os.Environ(), "HOLD_LOCK_IN="+d.Path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if err := d.Update(add("a")); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkUpdate110(b *testing.B) {
	d := Dir{Path: b.TempDir()}
	for i := range 110 {
		if err := d.Update(add(fmt.Sprintf("veth%d", i))); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if err := d.Update(add("one")); err != nil {
			b.Fatal(err)
		}
		if err := d.Update(func(s ipam.State) (ipam.State, error) { s, _ = ipam.Release(s, "one"); return s, nil }); err != nil {
			b.Fatal(err)
		}
	}
}
