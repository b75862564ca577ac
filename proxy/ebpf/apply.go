package ebpf

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/cilium/ebpf"

	"nodelet/internal/bpffs"
	"nodelet/proxy/lb"
)

// Config is what the back end has to know besides States.
type Config struct {
	// NetNS is a file descriptor of the node's network namespace; 0 is the own one.
	NetNS int
	// Cgroup is the directory in the cgroup2 tree whose sockets are balanced,
	// with all below it; empty is the root of the tree.
	Cgroup string
	// BPFFS is where the BPF file system is, or will be mounted; empty is /sys/fs/bpf.
	BPFFS string
	// MapSizes are the elements that maps have room for, by the maps' names;
	// those that are not named have DefaultMapSizes.
	MapSizes map[string]int
	// Log tells what becomes of another daemon's maps; nil for nobody.
	Log *slog.Logger `json:"-"`
	// XDP are the links where packets of known connections are forwarded by XDP,
	// or XDPAuto alone; none is nowhere.
	XDP []string
	// NoTCX uses clsact hooks even where the kernel has tcx.
	NoTCX bool
	// draining: the programs take no new connections.
	draining bool
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
	// squeezed: some Port found no room, so each Apply looks again.
	squeezed bool
	// attached are the devices that have our programs.
	attached   map[int]bool
	devicesErr error
	// offered are flows to take over from another back end, adopted those that were.
	offered, adopted []lb.UDPFlow
	// first is told of the first full Apply.
	first chan struct{}
}

// New makes the back end. It changes nothing.
func New(cfg Config) (*Backend, error) {
	cfg.BPFFS = cmp.Or(cfg.BPFFS, bpffs.Root)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	b := &Backend{cfg: cfg, attached: map[int]bool{}, first: make(chan struct{}, 1)}
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

// Apply makes the maps say what want says.
func (b *Backend) Apply(_ context.Context, want *lb.State) (lb.Result, error) {
	if err := CanDetect(want.Config().Local); err != nil {
		return lb.Result{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.devicesErr != nil || b.have == nil || b.squeezed || b.applied.Config() != want.Config() {
		return b.applyAll(want)
	}
	e := b.have.advance(b.applied, want)
	if name, _ := b.have.size.plus(e.removed()).over(b.kernel.limits()); name != "" {
		return b.applyAll(want)
	}
	err := steps(
		func() error { return b.kernel.markFrontends(want.Config(), e.frontends.keys) },
		func() error { return b.kernel.write(e) },
	)
	if err != nil {
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
	if err := b.open(); err != nil {
		return lb.Result{Full: true}, err
	}
	found, err := b.kernel.readAll()
	if err != nil {
		return lb.Result{Full: true}, err
	}
	c, e, refused := plan(&found, want, b.kernel.limits())
	write := b.kernel.write
	if name, _ := e.peak(&found).over(b.kernel.limits()); name != "" {
		write = func(e *edits) error { return b.kernel.writeTight(e, &found) }
	} else if b.kernel.fresh && found.sizes() == (sizes{}) {
		write = func(e *edits) error { return e.writeFirst(b.kernel.tables()) }
	}
	if err := b.kernel.markAll(want); err != nil {
		return lb.Result{Full: true}, err
	}
	if err := write(e); err != nil {
		return lb.Result{Full: true}, err
	}
	if err := b.adopt(c, want); err != nil {
		return lb.Result{Full: true}, err
	}
	changes, err := b.attach(want)
	if err != nil {
		return lb.Result{Full: true}, err
	}
	if err := b.kernel.completeMarks(want); err != nil {
		return lb.Result{Full: true}, err
	}
	if !b.kernel.fresh {
		if err := b.forgetEndpoints(c); err != nil {
			return lb.Result{Full: true}, err
		}
	}
	b.kernel.fresh = false
	b.begun()
	b.have, b.applied, b.squeezed = c, want, len(refused) > 0
	return lb.Result{Full: true, Messages: e.len() + changes, Gone: goneFrontends(e), Refused: refused.list()}, nil
}

// begun tells Run that Services are balanced.
func (b *Backend) begun() {
	select {
	case b.first <- struct{}{}:
	default:
	}
}

// open makes maps and loads programs, unless that is done.
func (b *Backend) open() error {
	if b.kernel != nil {
		return nil
	}
	k, err := openKernel(&b.cfg, b.cookie)
	if err != nil {
		return err
	}
	k.clsact = b.cfg.NoTCX
	b.kernel = k
	return nil
}

// forgetEndpoints ends what UDP still has to do with endpoints that no longer serve.
func (b *Backend) forgetEndpoints(c *content) error {
	return errors.Join(b.kernel.forgetFlows(c), b.inside(func() error {
		_, err := b.kernel.endSockets()
		return err
	}))
}

// plan gives what has to be written to make found what want says, as far as
// there is room.
func plan(found *elements, want *lb.State, limits sizes) (*content, *edits, refusals) {
	c := contentOf(want.Config(), found)
	refused := c.fit(want, limits)
	if len(refused) > 0 || found.sizes() != (sizes{}) {
		wanted := c.become(want, refused)
		return c, diffElements(found, &wanted), refused
	}
	return c, c.begin(want), nil // a first start: there is nothing to compare with
}

// attach puts the programs in their places, once the maps say what to do, and
// removes those of other layouts.
func (b *Backend) attach(want *lb.State) (changes int, err error) {
	if changes, err = b.syncDevices(want); err != nil {
		return changes, err
	}
	dir, err := b.cgroup()
	if err != nil {
		return changes, err
	}
	n, err := b.kernel.attachCgroup(dir)
	if changes += n; err != nil {
		return changes, err
	}
	return changes, b.kernel.removeOthers(b.cfg.Log)
}

// removeOthers removes the pins of other directories, once nothing uses them
// and what was tracked there until now is copied.
func (k *kernel) removeOthers(log *slog.Logger) error {
	others, err := k.others()
	if err != nil || len(others) == 0 {
		return err
	}
	if err := k.takeOver(false, log); err != nil {
		return err
	}
	for _, dir := range others {
		if err := bpffs.Remove(dir); err != nil {
			return err
		}
	}
	return nil
}

func (k *kernel) tables() *tables {
	m := &k.maps
	return &tables{
		ranges: bpfTable[proxyRangeKey, uint32]{m.Ranges}, members: bpfTable[proxyMemberKey, uint32]{m.Members},
		slots: bpfTable[proxySlotKey, proxyEndpoint]{m.Slots}, ports: bpfTable[uint32, proxyPort]{m.Ports},
		frontends: bpfTable[proxyFrontendKey, proxyFrontend]{m.Frontends},
	}
}

// limits are the sizes of the maps.
func (k *kernel) limits() sizes {
	m := &k.maps
	return sizes{
		ranges: int(m.Ranges.MaxEntries()), members: int(m.Members.MaxEntries()), slots: int(m.Slots.MaxEntries()),
		ports: int(m.Ports.MaxEntries()), frontends: int(m.Frontends.MaxEntries()),
	}
}

// write writes the elements, and forgets the counters of ports that are no more.
func (k *kernel) write(e *edits) error {
	if err := e.write(k.tables()); err != nil {
		return err
	}
	return k.uncount(e)
}

// writeTight does the same where there is no room to add before something goes.
func (k *kernel) writeTight(e *edits, found *elements) error {
	if err := e.writeTight(k.tables(), found); err != nil {
		return err
	}
	return k.uncount(e)
}

func (k *kernel) uncount(e *edits) error {
	return bpfTable[uint32, proxyCounter]{k.maps.Counters}.remove(e.noPorts)
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
	if info, infoErr := m.Info(); isFull(err) && infoErr == nil {
		return fmt.Errorf("write to a full map: %s", tooSmall(info.Name, int(m.MaxEntries())))
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
