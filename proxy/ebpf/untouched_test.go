package ebpf

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cilium/ebpf"

	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
)

const allKinds = `node n1 192.168.7.1
service d/x LoadBalancer 10.96.0.1,fd96::1 p:80/TCP[30080] q:53/UDP[30053] affinity=1h lb=1.2.3.4 ranges=10.0.0.0/8
slice d/x-4 of d/x p:8080/TCP q:8080/UDP 10.244.1.2=ready@n1 10.244.2.3=serving@n2 10.244.1.4=ready@n1
service d/y NodePort 10.96.0.2 p:80/TCP[30081] external=local
slice d/y-4 of d/y p:8080/TCP 10.244.1.2=ready@n1 10.244.2.3=ready@n2
service d/none ClusterIP 10.96.0.3 p:80/TCP
`

// TestUntouched: whatever somebody else takes away, adds or changes is found,
// and nothing is found where nobody did.
func TestUntouched(t *testing.T) {
	b := alone(t)
	world := lbtest.MustParse(allKinds)
	apply := func(lines string) {
		t.Helper()
		if err := world.Apply(lines); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Apply(t.Context(), lb.Compile(config, world.Snapshot())); err != nil {
			t.Fatal(err)
		}
	}
	for _, change := range []string{
		"",
		"slice d/y-4 of d/y p:8080/TCP 10.244.1.9=ready@n1 10.244.2.3=ready@n2 10.244.2.4=ready@n2",
		"service d/x LoadBalancer 10.96.0.1,fd96::1 p:80/TCP[30080] q:54/UDP[30053] affinity=1h lb=1.2.3.4 ranges=10.0.0.0/9,11.0.0.0/8",
		"delete service d/none",
		"service d/z ClusterIP 10.96.0.4 p:80/TCP\nslice d/y-4 of d/y p:8080/TCP 10.244.2.3=ready@n2",
	} {
		apply(change)
		if !b.Untouched(t.Context()) {
			t.Errorf("touched by nobody, after %q", change)
		}
	}
	m, links := &b.kernel.maps, filepath.Join(b.kernel.dir, "links")
	for name, touch := range map[string]func() error{
		"slot removed":       func() error { return removeOne(m.Slots) },
		"port removed":       func() error { return removeOne(m.Ports) },
		"member removed":     func() error { return removeOne(m.Members) },
		"frontend removed":   func() error { return removeOne(m.Frontends) },
		"range removed":      func() error { return removeOne(m.Ranges) },
		"local added":        func() error { return m.Locals.Put(proxyAddr{}, proxyLocal{}) },
		"slot added":         func() error { return m.Slots.Put(proxySlotKey{Port: 77}, proxyEndpoint{}) },
		"slot beyond":        func() error { return m.Slots.Put(proxySlotKey{Port: 1, Slot: 9}, proxyEndpoint{}) },
		"port added":         func() error { return m.Ports.Put(uint32(77), proxyPort{}) },
		"member added":       func() error { return m.Members.Put(proxyMemberKey{Port: 1}, uint32(0)) },
		"frontend added":     func() error { return m.Frontends.Put(proxyFrontendKey{Port: 1}, proxyFrontend{}) },
		"range added":        func() error { return m.Ranges.Put(proxyRangeKey{Bits: 32, Port: 1}, uint32(1)) },
		"device added":       func() error { return m.Devices.Put(uint32(77), proxyDevice{}) },
		"every slot changed": func() error { return blank(m.Slots) },
		"every port changed": func() error { return blank(m.Ports) },
		"all frontends":      func() error { return blank(m.Frontends) },
		"program taken off":  func() error { return os.Remove(filepath.Join(links, "connect4")) },
		"another program":    func() error { return swapPins(filepath.Join(links, "sendmsg4"), filepath.Join(links, "recvmsg4")) },
	} {
		if err := touch(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if b.Untouched(t.Context()) {
			t.Errorf("%s: not noticed", name)
		}
		b.Forget()
		apply("")
		if !b.Untouched(t.Context()) {
			t.Errorf("%s: not mended", name)
		}
	}
}

// removeOne removes some element.
func removeOne(m *ebpf.Map) error {
	key := make([]byte, m.KeySize())
	return errors.Join(m.NextKey(nil, key), m.Delete(key))
}

// blank makes all values zero.
func blank(m *ebpf.Map) error {
	var keys [][]byte
	var at any // nil: the first
	next := make([]byte, m.KeySize())
	for m.NextKey(at, next) == nil {
		keys = append(keys, slices.Clone(next))
		at = keys[len(keys)-1]
	}
	var err error
	for _, key := range keys {
		err = errors.Join(err, m.Put(key, make([]byte, m.ValueSize())))
	}
	return err
}

func swapPins(a, b string) error {
	return errors.Join(os.Rename(a, a+"x"), os.Rename(b, a), os.Rename(a+"x", b))
}
