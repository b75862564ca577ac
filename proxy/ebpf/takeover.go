package ebpf

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// A daemon with other programs, other sizes of maps or another layout takes
// over from the one before it while packets flow:
//
//  1. Maps that cannot be used as they are are set aside with all that is
//     pinned beside them, and new ones are made. The programs go on with the old ones.
//  2. The new maps get what is in the old ones, if the layout is the same,
//     and are brought to what is wanted.
//  3. The programs are replaced in their links, which move to the new directory.
//  4. What was tracked meanwhile is copied too, and the old pins are removed.
//
// Killed anywhere, the next daemon begins anew at 1 and finds all of it by its pins.

// aside marks the directories of maps that were set aside.
const aside = "-was"

// setAside renames the directory of a layout when its maps are not those of the spec.
func setAside(dir string, spec *ebpf.CollectionSpec, log *slog.Logger) error {
	for name, m := range spec.Maps {
		if m.Pinning != ebpf.PinByName {
			continue
		}
		pinned, err := ebpf.LoadPinnedMap(filepath.Join(dir, name), nil)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("open pinned eBPF map %s: %w", name, err)
		}
		differs := m.Compatible(pinned)
		if err := pinned.Close(); err != nil {
			return fmt.Errorf("close pinned eBPF map %s: %w", name, err)
		}
		if differs != nil {
			log.Info("eBPF maps are made anew and get what is in the old ones", "because", differs)
			return rename(dir)
		}
	}
	return nil
}

func rename(dir string) error {
	for i := 1; ; i++ {
		to := fmt.Sprintf("%s%s%d", dir, aside, i)
		err := unix.Renameat2(unix.AT_FDCWD, dir, unix.AT_FDCWD, to, 0)
		if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.ENOTEMPTY) {
			continue
		}
		if err != nil {
			return fmt.Errorf("set aside eBPF maps: %w", err)
		}
		return nil
	}
}

// others lists the directories of other layouts, and of maps set aside.
func (k *kernel) others() ([]string, error) {
	parent := filepath.Dir(k.dir)
	entries, err := os.ReadDir(parent)
	if err != nil {
		return nil, fmt.Errorf("list layouts of eBPF maps: %w", err)
	}
	var out []string
	for _, e := range entries {
		if e.Name() != filepath.Base(k.dir) {
			out = append(out, filepath.Join(parent, e.Name()))
		}
	}
	return out, nil
}

// sameLayout tells whether maps in a directory have elements that say what ours say.
func (k *kernel) sameLayout(dir string) bool {
	return strings.HasPrefix(filepath.Base(dir), filepath.Base(k.dir)+aside)
}

// shared are maps that are the same whatever sizes others have: of one the
// elements cannot be listed, the other is written all the time.
var shared = []string{"peers", "names"}

// share pins the maps again that old ones stand beside.
func (k *kernel) share() error {
	others, err := k.others()
	if err != nil {
		return err
	}
	for _, dir := range others {
		if !k.sameLayout(dir) {
			continue
		}
		for _, name := range shared {
			if err := pinAgain(filepath.Join(dir, name), filepath.Join(k.dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// pinAgain pins a map by a second name, unless there is one of that name.
func pinAgain(from, to string) error {
	if _, err := os.Stat(to); err == nil {
		return nil
	}
	old, err := ebpf.LoadPinnedMap(from, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open pinned eBPF map %s: %w", filepath.Base(from), err)
	}
	again, err := old.Clone() // Pin of the first would only rename it
	if err == nil {
		err = errors.Join(again.Pin(to), again.Close())
	}
	if err := errors.Join(err, old.Close()); err != nil {
		return fmt.Errorf("pin eBPF map %s again: %w", filepath.Base(from), err)
	}
	return nil
}

// takeOver copies what other directories' maps hold and ours do not. written:
// also what the daemon writes, with its numbers.
func (k *kernel) takeOver(written bool, log *slog.Logger) error {
	others, err := k.others()
	if err != nil {
		return err
	}
	for _, dir := range others {
		if !k.sameLayout(dir) {
			if written {
				log.Warn("eBPF maps of another version of nodelet cannot be taken over: connections that were translated at the devices begin anew", "maps", dir)
			}
			continue
		}
		if err := k.copyFrom(dir, written); err != nil {
			return err
		}
	}
	return nil
}

func (k *kernel) copyFrom(dir string, written bool) error {
	m := &k.maps
	copies := []func() error{
		func() error { return copyMap[proxyTuple, proxyFlow](dir, "flows", m.Flows) },
		func() error { return copyMap[proxyClientKey, proxyClient](dir, "clients", m.Clients) },
		func() error { return copyMap[proxyDatagramKey, proxyDatagram](dir, "datagrams", m.Datagrams) },
	}
	if written {
		copies = append(copies,
			func() error { return copyMap[proxyRangeKey, uint32](dir, "ranges", m.Ranges) },
			func() error { return copyMap[proxyMemberKey, uint32](dir, "members", m.Members) },
			func() error { return copyMap[proxySlotKey, proxyEndpoint](dir, "slots", m.Slots) },
			func() error { return copyMap[uint32, proxyPort](dir, "ports", m.Ports) },
			func() error { return copyMap[proxyFrontendKey, proxyFrontend](dir, "frontends", m.Frontends) },
			func() error { return copyCounters(dir, m.Counters) },
		)
	}
	return steps(copies...)
}

// copyMap copies what is pinned by a name in a directory and not in a map.
// What finds no room is left out: what the daemon writes it will look at
// again, and of the rest the idlest go anyway.
func copyMap[K, V comparable](dir, name string, to *ebpf.Map) error {
	from, err := ebpf.LoadPinnedMap(filepath.Join(dir, name), nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open pinned eBPF map %s: %w", name, err)
	}
	defer func() { _ = from.Close() }()
	old, err := readMap[K, V](from)
	if err != nil {
		return err
	}
	have, err := readMap[K, V](to)
	if err != nil {
		return err
	}
	for key, value := range old {
		if _, there := have[key]; there {
			continue
		}
		err := to.Update(&key, &value, ebpf.UpdateNoExist)
		if isFull(err) {
			return nil
		}
		if err != nil && !errors.Is(err, ebpf.ErrKeyExist) {
			return fmt.Errorf("copy eBPF map %s: %w", name, err)
		}
	}
	return nil
}

// copyCounters is copyMap for values of each processor.
func copyCounters(dir string, to *ebpf.Map) error {
	from, err := ebpf.LoadPinnedMap(filepath.Join(dir, "counters"), nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open pinned eBPF map counters: %w", err)
	}
	defer func() { _ = from.Close() }()
	var port uint32
	var values []proxyCounter
	all := from.Iterate()
	for all.Next(&port, &values) {
		err := to.Update(&port, values, ebpf.UpdateNoExist)
		if err != nil && !isFull(err) && !errors.Is(err, ebpf.ErrKeyExist) {
			return fmt.Errorf("copy eBPF map counters: %w", err)
		}
	}
	return all.Err()
}

// isFull tells that a map has no room for another element.
func isFull(err error) bool { return errors.Is(err, unix.E2BIG) || errors.Is(err, unix.ENOSPC) }

// inherit moves a pinned link of another directory to ours, so that the
// program in it can be replaced: no packet meets none, or two.
func (k *kernel) inherit(pin string) error {
	if _, err := os.Lstat(pin); err == nil {
		return nil
	}
	others, err := k.others()
	if err != nil {
		return err
	}
	for _, dir := range others {
		err := os.Rename(filepath.Join(dir, "links", filepath.Base(pin)), pin)
		if err == nil {
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("take over a pinned link: %w", err)
		}
	}
	return nil
}
