package ebpf

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"nodelet/internal/bpffs"
	"nodelet/proxy/lb"
)

// Config is what the back end has to know besides States.
type Config struct {
	// NetNS is a file descriptor of the node's network namespace; 0 is the own one.
	NetNS int
	// Cgroup is the directory whose sockets are balanced, with all below it;
	// empty is the root of the cgroup2 tree.
	Cgroup string
	// BPFFS is where the BPF file system is, or will be mounted; empty is /sys/fs/bpf.
	BPFFS string
	// NoTCX uses clsact hooks even where the kernel has tcx.
	NoTCX bool
}

// Backend keeps the maps and the programs. Run apart, it is used by one goroutine at a time.
type Backend struct {
	cfg    Config
	cookie uint64

	// mu guards the rest against Run.
	mu     sync.Mutex
	kernel *kernel // nil before the first Apply
	// have is what the maps hold; nil when that is not known.
	have *content
	// applied is the State that have stands for.
	applied *lb.State
	// attached are the devices that have our programs.
	attached   map[int]bool
	devicesErr error
}

// New makes the back end. It changes nothing.
func New(cfg Config) (*Backend, error) {
	cfg.BPFFS = cmp.Or(cfg.BPFFS, bpffs.Root)
	b := &Backend{cfg: cfg, attached: map[int]bool{}}
	err := b.inside(func() (err error) {
		b.cookie, err = cookieOf()
		return err
	})
	if err != nil {
		return nil, err
	}
	return b, nil
}

// Close lets go of the kernel; programs and maps stay.
func (b *Backend) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forget()
	if b.kernel == nil {
		return nil
	}
	k := b.kernel
	b.kernel = nil
	return k.close()
}

// Forget makes the next Apply look at the kernel.
func (b *Backend) Forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forget()
}

func (b *Backend) forget() { b.have, b.applied = nil, nil; clear(b.attached) }

// Untouched tells whether nobody has changed anything: nobody tells, so it has
// to be looked at, which takes about a microsecond for each element.
func (b *Backend) Untouched(context.Context) bool { return false }

// Apply makes the maps say what want says.
func (b *Backend) Apply(_ context.Context, want *lb.State) (lb.Result, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.devicesErr != nil || b.have == nil || b.applied.Config() != want.Config() {
		return b.applyAll(want)
	}
	e := b.have.advance(b.applied, want)
	if err := b.kernel.write(e); err != nil {
		b.forget()
		return lb.Result{}, err
	}
	b.have.written(e)
	b.applied = want
	if e.stops() {
		if err := b.forgetEndpoints(b.have); err != nil {
			b.forget()
			return lb.Result{}, err
		}
	}
	return lb.Result{Messages: e.len()}, nil
}

// applyAll looks at the kernel and writes what differs.
func (b *Backend) applyAll(want *lb.State) (lb.Result, error) {
	b.forget()
	b.devicesErr = nil
	if b.kernel == nil {
		k, err := openKernel(b.cfg.BPFFS, b.cookie)
		if err != nil {
			return lb.Result{}, err
		}
		k.clsact = b.cfg.NoTCX
		b.kernel = k
	}
	found, err := b.kernel.readAll()
	if err != nil {
		return lb.Result{}, err
	}
	c, e := plan(&found, want)
	if err := b.kernel.write(e); err != nil {
		return lb.Result{}, err
	}
	changes, err := b.attach(want)
	if err != nil {
		return lb.Result{}, err
	}
	if err := b.forgetEndpoints(c); err != nil {
		return lb.Result{}, err
	}
	b.have, b.applied = c, want
	return lb.Result{Full: true, Messages: e.len() + changes, Gone: goneFrontends(e)}, nil
}

// forgetEndpoints ends what UDP still has to do with endpoints that no longer serve.
func (b *Backend) forgetEndpoints(c *content) error {
	return errors.Join(b.kernel.forgetFlows(c), b.inside(b.kernel.endSockets))
}

// plan gives what has to be written to make found what want says.
func plan(found *elements, want *lb.State) (*content, *edits) {
	if len(found.frontends)+len(found.ports)+len(found.slots)+len(found.members)+len(found.ranges) > 0 {
		c := contentOf(want.Config(), found)
		wanted := c.become(want)
		return c, diffElements(found, &wanted)
	}
	c := newContent(want.Config()) // a first start: nothing to compare with
	e := c.advance(lb.Empty(want.Config()), want)
	for _, p := range want.Config().PodCIDRs {
		e.ranges.add(encodeRange(podRanges, p), 1)
	}
	return c, e
}

// attach puts the programs in their places, once the maps say what to do, and
// removes those of other layouts.
func (b *Backend) attach(want *lb.State) (changes int, err error) {
	if changes, err = b.syncDevices(want); err != nil {
		return changes, err
	}
	dir := b.cfg.Cgroup
	if dir == "" {
		if dir, err = cgroupRoot(); err != nil {
			return changes, err
		}
	}
	n, err := b.kernel.attachCgroup(dir)
	if changes += n; err != nil {
		return changes, err
	}
	return changes, removeOthers(b.kernel.dir)
}

// removeOthers removes the pins of other layouts.
func removeOthers(dir string) error {
	parent := filepath.Dir(dir)
	entries, err := os.ReadDir(parent)
	if err != nil {
		return fmt.Errorf("list layouts: %w", err)
	}
	for _, e := range entries {
		if e.Name() != filepath.Base(dir) {
			if err := bpffs.Remove(filepath.Join(parent, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// write writes the elements, and forgets the counters of ports that are no more.
func (k *kernel) write(e *edits) error {
	m := &k.maps
	err := e.write(&tables{
		ranges: bpfTable[proxyRangeKey, uint32]{m.Ranges}, members: bpfTable[proxyMemberKey, uint32]{m.Members},
		slots: bpfTable[proxySlotKey, proxyEndpoint]{m.Slots}, ports: bpfTable[uint32, proxyPort]{m.Ports},
		frontends: bpfTable[proxyFrontendKey, proxyFrontend]{m.Frontends},
	})
	if err != nil {
		return err
	}
	return bpfTable[uint32, proxyCounter]{m.Counters}.remove(e.noPorts)
}

// bpfTable is a map in the kernel.
type bpfTable[K comparable, V any] struct{ *ebpf.Map }

// few is how many elements are written one by one: a batch has its own price.
const few = 16

func (t bpfTable[K, V]) put(p *puts[K, V]) error {
	if len(p.keys) > few && t.Type() != ebpf.LPMTrie {
		if _, err := t.BatchUpdate(p.keys, p.values, nil); err == nil {
			return nil
		}
	}
	for i := range p.keys {
		if err := t.Put(&p.keys[i], &p.values[i]); err != nil {
			return explain(t.Map, err)
		}
	}
	return nil
}

func (t bpfTable[K, V]) remove(keys []K) error {
	for i := range keys {
		if err := t.Delete(&keys[i]); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return explain(t.Map, err)
		}
	}
	return nil
}

// explain says what to do about a map that is full.
func explain(m *ebpf.Map, err error) error {
	if errors.Is(err, unix.E2BIG) || errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("write eBPF map %s: it is full with its %d elements; what was there stays as it was: "+
			"use --proxy-mode=nftables, which has no such limit", m, m.MaxEntries())
	}
	return fmt.Errorf("write eBPF map %s: %w", m, err)
}

// syncMap makes a small map what want says.
func syncMap[K, V comparable](m *ebpf.Map, want map[K]V) (changes int, err error) {
	have, err := readMap[K, V](m)
	if err != nil {
		return 0, err
	}
	p := &puts[K, V]{}
	gone := diffMap(p, have, want)
	t := bpfTable[K, V]{m}
	if err := t.put(p); err != nil {
		return 0, err
	}
	return len(p.keys) + len(gone), t.remove(gone)
}

// Cleanup removes the pins: with them the links are detached and the maps freed.
func (b *Backend) Cleanup(context.Context) error {
	if err := b.Close(); err != nil {
		return err
	}
	pins := pinsOf(b.cfg.BPFFS, b.cookie)
	return errors.Join(b.inside(cleanClsact), bpffs.Remove(pins), bpffs.RemoveEmpty(filepath.Dir(pins)))
}

// Residue names what is left of ours.
func (b *Backend) Residue(context.Context) ([]string, error) {
	dir := pinsOf(b.cfg.BPFFS, b.cookie)
	left, err := bpffs.Entries(dir)
	if err == nil && len(left) == 0 {
		// The directory above is only ours to name when nobody else's is in it.
		if left, err = bpffs.Entries(filepath.Dir(dir)); len(left) > 1 {
			left = nil
		}
	}
	if err != nil {
		return nil, err
	}
	for i := range left {
		left[i] = "BPF pin " + left[i]
	}
	err = b.inside(func() error {
		programs, err := clsactResidue()
		left = append(left, programs...)
		return err
	})
	return left, err
}
