package ebpf

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/cilium/ebpf"
)

// openHeld opens the maps that are pinned, and nothing else: for a look by
// somebody who must not be in the way of Apply. Without maps the error wraps
// fs.ErrNotExist.
func openHeld(root string, cookie uint64) (*kernel, error) {
	k := &kernel{dir: filepath.Join(pinsOf(root, cookie), layout)}
	m := &k.maps
	for name, at := range map[string]**ebpf.Map{
		"ranges": &m.Ranges, "members": &m.Members, "slots": &m.Slots, "ports": &m.Ports, "frontends": &m.Frontends,
		"locals": &m.Locals, "devices": &m.Devices, "flows": &m.Flows, "datagrams": &m.Datagrams, "clients": &m.Clients,
		"fragments": &m.Fragments, "counters": &m.Counters, "drops": &m.Drops,
	} {
		var err error
		if *at, err = ebpf.LoadPinnedMap(filepath.Join(k.dir, name), nil); err != nil {
			return nil, errors.Join(fmt.Errorf("open pinned eBPF map %s: %w", name, err), k.maps.Close())
		}
	}
	return k, nil
}

// Held reads what the kernel holds. It changes nothing and may be called by
// any goroutine at any time.
func (b *Backend) Held() (*Maps, error) {
	k, err := openHeld(b.cfg.BPFFS, b.cookie)
	if err != nil {
		return nil, err
	}
	defer func() { _ = k.close() }()
	var m Maps
	if m.elements, err = k.readAll(); err != nil {
		return nil, err
	}
	m.locals, err = readMap[proxyAddr, proxyLocal](k.maps.Locals)
	return &m, err
}

// ForgetConnections removes everything that the programs have remembered of
// connections: they all begin anew. For trials; nothing else needs it.
func (b *Backend) ForgetConnections() error {
	k, err := openHeld(b.cfg.BPFFS, b.cookie)
	if err != nil {
		return err
	}
	defer func() { _ = k.close() }()
	return errors.Join(emptyMap(k.maps.Flows), emptyMap(k.maps.Datagrams), emptyMap(k.maps.Clients))
}

// EmptyPinned removes all elements of a pinned map, by the directory of the
// maps and its name: for tests of what that does.
func EmptyPinned(dir, name string) error {
	m, err := ebpf.LoadPinnedMap(filepath.Join(dir, name), nil)
	if err != nil {
		return fmt.Errorf("open pinned eBPF map %s: %w", name, err)
	}
	return errors.Join(emptyMap(m), m.Close())
}

func emptyMap(m *ebpf.Map) error {
	key := make([]byte, m.KeySize())
	for {
		if err := m.NextKey(nil, key); err != nil {
			if errors.Is(err, ebpf.ErrKeyNotExist) {
				return nil
			}
			return fmt.Errorf("read map %s: %w", m, err)
		}
		if err := m.Delete(key); err != nil {
			return fmt.Errorf("empty map %s: %w", m, err)
		}
	}
}
