package ebpf

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"nodelet/internal/bpffs"
)

// CanRefuse tells whether processes of the node hear ECONNREFUSED.
func CanRefuse() bool { return canRefuse() }

// CanEnd tells whether sockets of the node can be ended.
func CanEnd(t *testing.T) bool {
	spec, err := specFor(1, nil)
	if err != nil {
		t.Fatal(err)
	}
	return endable(t, load(t, spec)) == nil
}

// Since tells whether the kernel is of a version or a later one.
func Since(t *testing.T, major, minor int) bool {
	t.Helper()
	return since(t, major, minor)
}

// Cookie tells the network namespace of a back end.
func Cookie(b *Backend) uint64 { return b.cookie }

// RemovePins removes what a back end has left, when its namespace may be gone.
func RemovePins(b *Backend) error { return bpffs.Remove(pinsOf(b.cfg.BPFFS, b.cookie)) }

// IsAside tells whether a pin is of maps that were set aside.
func IsAside(pin string) bool { return strings.Contains(pin, aside) }

// Layout is the directory of the maps and links.
func Layout(b *Backend) string { return filepath.Join(pinsOf(b.cfg.BPFFS, b.cookie), layout) }

// Programs are those that a connection over IPv4 meets.
func Programs(b *Backend) map[string]*ebpf.Program {
	p := &b.kernel.progs
	return map[string]*ebpf.Program{"connect4": p.Connect4, "ingress": p.Ingress, "egress": p.Egress}
}

// Unmarked gives how many flows there are, and how many of them have no mark.
func Unmarked(t *testing.T, b *Backend) (flows, missing int) {
	t.Helper()
	all, err := readMap[proxyTuple, proxyFlow](b.kernel.maps.Flows)
	if err != nil {
		t.Fatal(err)
	}
	for k, f := range all {
		var set uint32
		if err := b.kernel.maps.Marks.Lookup(markOfFlow(&k, &f), &set); err != nil {
			t.Fatal(err)
		}
		if set == 0 {
			missing++
		}
	}
	return len(all), missing
}

// ClearMarks takes all marks away.
func ClearMarks(t *testing.T, b *Backend) {
	t.Helper()
	m := b.kernel.maps.Marks
	for i := range m.MaxEntries() {
		if err := m.Put(i, uint32(0)); err != nil {
			t.Fatal(err)
		}
	}
}
