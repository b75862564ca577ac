package xdp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"nodelet/dns/wire"
	"nodelet/dns/zone"
)

// spareSlots are for new names, and for changes: a slot rests for a second.
const spareSlots = 1024

// Config is what has to be known beside the zone.
type Config struct {
	// Servers are the addresses that are answered at; IPv6 ones are left to the sockets.
	Servers []netip.Addr
	Port    uint16
}

// Answerer keeps the program and what it answers with.
type Answerer struct {
	c   Config
	log *slog.Logger

	// mu guards the rest: the loop that keeps the zone, the one that keeps the
	// devices, and readers of counters meet here.
	mu sync.Mutex
	// kernel is nil while nothing is answered here; zone is what it says then.
	kernel *kernel
	zone   *zone.Zone
	links  map[int]link.Link
	// refused are the devices that could not be had, and why.
	refused map[int]string
	// counted outlives kernels.
	counted *ebpf.Map
	closed  bool
}

// kernel is the program with its maps.
type kernel struct {
	objects answerObjects
	names   *table
}

// New checks the configuration. It touches nothing.
func New(c Config, log *slog.Logger) (*Answerer, error) {
	switch _, n := encodeServers(c.Servers); {
	case n == 0:
		return nil, errors.New("answer DNS by XDP: no IPv4 address is served, and only those are answered there")
	case n > maxServers:
		return nil, fmt.Errorf("answer DNS by XDP: %d IPv4 addresses are served, at most %d can be", n, maxServers)
	}
	return &Answerer{c: c, log: log, links: map[int]link.Link{}, refused: map[int]string{}}, nil
}

// Apply makes the kernel answer what z says. After an error it answers nothing.
func (a *Answerer) Apply(z *zone.Zone) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !z.Synced() || a.closed {
		a.clear()
		return nil
	}
	err := a.advance(z)
	if errors.Is(err, errFull) || errors.Is(err, errAnew) {
		err = a.rebuild(z)
	}
	if err != nil {
		a.clear()
		return err
	}
	a.zone = z
	return nil
}

// errAnew says that the maps are not one step from the zone.
var errAnew = errors.New("DNS answers in the kernel have to be written anew")

// advance writes what has changed since the zone before.
func (a *Answerer) advance(z *zone.Zone) error {
	keys, ok := z.Changed(a.zone)
	if !ok || a.kernel == nil {
		return errAnew
	}
	now := time.Now()
	for _, key := range keys {
		if err := a.kernel.names.set(key, z.Packed(key), now); err != nil {
			return err
		}
	}
	return a.kernel.setSerial(z)
}

// rebuild makes new maps with room for z, and puts their program in the place of the one that runs.
func (a *Answerer) rebuild(z *zone.Zone) error {
	k, err := a.load(z)
	if err != nil {
		return err
	}
	for index, l := range a.links {
		if err := l.Update(k.objects.Answer); err != nil { // the device is gone, or the program was taken off by somebody
			_ = l.Close()
			delete(a.links, index)
		}
	}
	old := a.kernel
	a.kernel = k
	if old != nil {
		return old.close()
	}
	return a.syncDevices()
}

// load makes the maps and the program that answer what z says.
func (a *Answerer) load(z *zone.Zone) (*kernel, error) {
	spec, err := loadAnswer()
	if err != nil {
		return nil, fmt.Errorf("read the compiled eBPF program: %w", err)
	}
	soa, domain := z.SOA()
	servers, _ := encodeServers(a.c.Servers)
	var port [2]byte
	binary.BigEndian.PutUint16(port[:], a.c.Port)
	for name, value := range map[string]any{
		answerVarServers: servers, answerVarPort: binary.NativeEndian.Uint16(port[:]), answerVarDomainLen: uint32(domain), answerVarSoa: soa,
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("set %s of the eBPF program: %w", name, err)
		}
	}
	// A quarter more than there are now, so that maps are seldom made anew.
	slots := uint32(count(z))*5/4 + spareSlots
	spec.Maps[answerMapSlots].MaxEntries, spec.Maps[answerMapNames].MaxEntries = slots, slots
	opts := ebpf.CollectionOptions{}
	if a.counted != nil {
		opts.MapReplacements = map[string]*ebpf.Map{answerMapCounted: a.counted}
	}
	k := &kernel{}
	if err := spec.LoadAndAssign(&k.objects, &opts); err != nil {
		return nil, fmt.Errorf("load the eBPF program that answers DNS (needs Linux 5.18, and root or CAP_BPF and CAP_NET_ADMIN): %w", err)
	}
	if a.counted == nil {
		if a.counted, err = k.objects.Counted.Clone(); err != nil {
			return nil, errors.Join(fmt.Errorf("keep the counters of the eBPF program: %w", err), k.close())
		}
	}
	k.names = newTable(k, slots)
	now := time.Now()
	for key := range z.Keys() {
		if err := k.names.set(key, z.Packed(key), now); err != nil {
			return nil, errors.Join(err, k.close())
		}
	}
	if err := k.setSerial(z); err != nil {
		return nil, errors.Join(err, k.close())
	}
	return k, nil
}

// count is the number of names that z has for the kernel.
func count(z *zone.Zone) (n int) {
	for key := range z.Keys() {
		for range z.Packed(key) {
			n++
		}
	}
	return n
}

func (k *kernel) close() error { return k.objects.Close() }

func (k *kernel) setSerial(z *zone.Zone) error {
	var serial [4]byte
	binary.BigEndian.PutUint32(serial[:], uint32(z.Revision()))
	return k.wrote(k.objects.Serial.Put(uint32(0), serial))
}

func (k *kernel) slot(i uint32) (s answerSlot, err error) {
	err = k.objects.Slots.Lookup(i, &s)
	return s, err
}

func (k *kernel) putSlot(i uint32, s *answerSlot) error { return k.wrote(k.objects.Slots.Put(i, s)) }

func (k *kernel) putName(hash uint64, slot uint32) error {
	return k.wrote(k.objects.Names.Put(hash, slot))
}

func (k *kernel) dropName(hash uint64) error { return k.wrote(k.objects.Names.Delete(hash)) }

func (k *kernel) wrote(err error) error {
	if err != nil {
		return fmt.Errorf("write DNS answers to the kernel: %w", err)
	}
	return nil
}

// Clear ends answering here: all questions reach the sockets.
func (a *Answerer) Clear() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.clear()
}

func (a *Answerer) clear() {
	for index, l := range a.links {
		_ = l.Close() // with its last descriptor the kernel detaches it
		delete(a.links, index)
	}
	if a.kernel != nil {
		_ = a.kernel.close()
	}
	a.kernel, a.zone = nil, nil
}

// Close is Clear, for good.
func (a *Answerer) Close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.clear()
	a.closed = true
	if a.counted != nil {
		_ = a.counted.Close()
		a.counted = nil
	}
}

// Answers reports whether the kernel has the answer to a question that comes by
// UDP and IPv4 from a pod, by what its maps say now.
func (a *Answerer) Answers(q *wire.Query) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	words, ok := encodeName(q.Name())
	if a.kernel == nil || len(a.links) == 0 || !ok {
		return false
	}
	var slot uint32
	var s answerSlot
	if a.kernel.objects.Names.Lookup(hash(&words, len(q.Name())), &slot) != nil || a.kernel.objects.Slots.Lookup(slot, &s) != nil {
		return false
	}
	return s.has(q)
}

// Counts are the answers since the start, all NOERROR, by type.
func (a *Answerer) Counts() map[string]uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := map[string]uint64{}
	var cpus []answerCounts
	if a.counted == nil || a.counted.Lookup(uint32(0), &cpus) != nil {
		return out
	}
	for _, c := range cpus {
		for i, n := range c.Answers {
			if n > 0 {
				out[asked[i]] += n
			}
		}
	}
	return out
}
