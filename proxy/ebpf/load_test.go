package ebpf

import (
	"cmp"
	"errors"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// mostWalked is how many instructions a kernel's verifier may look at for one
// program: far below its limit of a million, for what it takes is the start of
// the daemon (and minutes on an emulated machine).
const mostWalked = 50_000

// TestLoad has the kernel's verifier look at every program, as they are and as
// they drain, and tells what it took. `make test-vm` does it on the kernels of
// docs/kernels.md.
func TestLoad(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: loads eBPF programs")
	}
	for _, draining := range []bool{false, true} {
		spec, err := specFor(1, nil)
		if err != nil {
			t.Fatal(err)
		}
		if draining {
			if err := drain(spec); err != nil {
				t.Fatal(err)
			}
		}
		all := load(t, spec)
		for _, name := range slices.SortedFunc(maps.Keys(all.Programs), cmp.Compare) {
			info, err := all.Programs[name].Info()
			if err != nil {
				t.Fatal(err)
			}
			walked, _ := info.VerifiedInstructions() // since 5.16
			t.Logf("draining %v, %s: the verifier looked at %d instructions", draining, name, walked)
			if walked > mostWalked {
				t.Errorf("draining %v, %s: the verifier looked at %d instructions, want at most %d", draining, name, walked, mostWalked)
			}
		}
		tryForwarder(t, all)
		switch err := endable(t, all); {
		case err != nil && since(t, 6, 5):
			t.Errorf("the program that ends sockets: %+v", err)
		case err != nil:
			t.Logf("sockets cannot be ended: %v", err)
		}
	}
}

// tryForwarder loads the program for XDP over the maps of the others.
func tryForwarder(t *testing.T, all *ebpf.Collection) {
	t.Helper()
	m := all.Maps
	f, err := openForwarder(&proxyMaps{
		Clients: m["clients"], Counters: m["counters"], Datagrams: m["datagrams"], Devices: m["devices"], Drops: m["drops"], Flows: m["flows"],
		Fragments: m["fragments"], Frontends: m["frontends"], Locals: m["locals"], Marks: m["marks"], Members: m["members"], Names: m["names"], Peers: m["peers"], Ports: m["ports"],
		Ranges: m["ranges"], Slots: m["slots"],
	})
	if err != nil {
		t.Errorf("the program for XDP: %+v", err)
		return
	}
	if info, err := f.prog.Info(); err == nil {
		walked, _ := info.VerifiedInstructions()
		t.Logf("forward: the verifier looked at %d instructions", walked)
		if walked > mostWalked {
			t.Errorf("forward: the verifier looked at %d instructions, want at most %d", walked, mostWalked)
		}
	}
	if err := f.close(); err != nil {
		t.Error(err)
	}
}

// endable tells why sockets cannot be ended, if so.
func endable(t *testing.T, all *ebpf.Collection) error {
	t.Helper()
	ended, err := openEnded(&proxyMaps{Members: all.Maps["members"], Peers: all.Maps["peers"]})
	if err != nil {
		return err
	}
	return ended.Close()
}

// TestLoadOver: programs that are loaded after the others take maps of any size.
// The one that ends sockets once did not, and nobody was told.
func TestLoadOver(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: loads eBPF programs")
	}
	spec, err := specFor(1, map[string]int{"members": 64, "flows": 64})
	if err != nil {
		t.Fatal(err)
	}
	all := load(t, spec)
	tryForwarder(t, all)
	if err := endable(t, all); err != nil && since(t, 6, 5) {
		t.Errorf("the program that ends sockets: %v", err)
	}
}

func load(t *testing.T, spec *ebpf.CollectionSpec) *ebpf.Collection {
	t.Helper()
	all, err := ebpf.NewCollection(spec)
	var refused *ebpf.VerifierError
	if errors.As(err, &refused) {
		t.Fatalf("the verifier says:\n%+v", refused)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(all.Close)
	return all
}

// since tells whether the kernel is of a version or a later one.
func since(t *testing.T, major, minor int) bool {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	var have [2]int
	i := 0
	for _, c := range unix.ByteSliceToString(u.Release[:]) {
		switch {
		case c >= '0' && c <= '9':
			have[i] = have[i]*10 + int(c-'0')
		case c == '.' && i == 0:
			i++
		default:
			return cmp.Or(have[0]-major, have[1]-minor) >= 0
		}
	}
	return cmp.Or(have[0]-major, have[1]-minor) >= 0
}
