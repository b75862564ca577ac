package zone

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"nodelet/internal/model"
	"nodelet/internal/store"
)

// PodMode says how names like 10-244-0-5.<namespace>.pod.<domain> are answered.
type PodMode uint8

// The modes. PodsInsecure answers any address; PodsVerified only those of a pod
// of that namespace, which takes Input.Pods.
const (
	PodsInsecure PodMode = iota
	PodsDisabled
	PodsVerified
)

// String is the mode as a Corefile writes it.
func (m PodMode) String() string { return [...]string{"insecure", "disabled", "verified"}[m] }

// ParsePodMode reads what String writes.
func ParsePodMode(s string) (PodMode, error) {
	for m := PodsInsecure; m <= PodsVerified; m++ {
		if s == m.String() {
			return m, nil
		}
	}
	return 0, fmt.Errorf("read pod record mode %q: want disabled, insecure or verified", s)
}

// Config is what the zone needs beside the tables.
type Config struct {
	// Domain is the cluster domain, such as cluster.local.
	Domain string
	// TTL of all answers but dns-version, in seconds.
	TTL  uint32
	Pods PodMode
	// Servers are the addresses of ns.dns.<domain>.
	Servers []netip.Addr
}

type config struct {
	Config
	domain string // wire form with root
	labels int
}

// Input are the tables the zone is compiled from, all of one snapshot.
type Input struct {
	Revision store.Revision
	Services store.Table[model.Key, *model.Service]
	Slices   store.Table[model.Key, *model.Slice]
	// Namespaces may stay unsynced: then a namespace is known by its Services.
	Namespaces store.Table[model.Key, *model.Namespace]
	// Pods is looked at with PodsVerified only.
	Pods store.Table[model.Key, *model.PodAddr]
}

func (in Input) synced() bool { return in.Services.Synced() && in.Slices.Synced() }

// InputOf picks the zone's tables out of a snapshot.
func InputOf(s *store.Snapshot) Input {
	return Input{Revision: s.Revision, Services: s.Services, Slices: s.Slices, Namespaces: s.Namespaces, Pods: s.PodAddrs}
}

// Zone is the compiled zone at one revision. Immutable.
type Zone struct {
	c      *config
	in     Input
	synced bool

	services   index // records, by the name below "svc"
	namespaces index // number of Services, and one for the namespace itself
	reverse    index // refs, by address
	pods       index // namespaces of the pods with an address, sorted, one entry per pod

	// step counts the calls of Advance since New; changed are the keys of the
	// Services that the last one compiled.
	step    uint64
	changed []string
}

// New makes the zone of no tables: not synced, every answer SERVFAIL.
func New(c Config) (*Zone, error) {
	domain, ok := wireName(strings.ToLower(c.Domain))
	if !ok || len(domain) == 1 || len(domain) > 128 {
		return nil, fmt.Errorf("read cluster domain %q: want a domain name of at most 128 characters", c.Domain)
	}
	labels := strings.Count(strings.TrimSuffix(c.Domain, "."), ".") + 1
	return &Zone{c: &config{Config: c, domain: string(domain), labels: labels}}, nil
}

// Build compiles the tables from scratch.
func Build(c Config, in Input) (*Zone, error) {
	z, err := New(c)
	if err != nil {
		return nil, err
	}
	return z.Advance(in), nil
}

// Revision is that of the snapshot the zone was compiled from.
func (z *Zone) Revision() store.Revision { return z.in.Revision }

// At is the same zone at a later revision at which its tables are the same.
func (z *Zone) At(r store.Revision) *Zone {
	next := *z
	next.in.Revision = r
	return &next
}

// Grown reports whether the zone comes from base by Advance, and so has its configuration.
func (z *Zone) Grown(base *Zone) bool { return z.c == base.c }

// Synced reports whether the tables had had their first full list.
func (z *Zone) Synced() bool { return z.synced }

// Len is the number of Services.
func (z *Zone) Len() int {
	if z.step == 0 {
		return 0 // of no tables
	}
	return z.in.Services.Len()
}

// String is one line: domain, revision, sizes.
func (z *Zone) String() string {
	return fmt.Sprintf("%s revision %d services %d namespaces %d addresses %d pods %d synced=%t",
		z.c.Domain, z.in.Revision, z.services.size, z.namespaces.size, z.reverse.size, z.pods.size, z.synced)
}

// Advance compiles what changed between the tables of z and in.
func (z *Zone) Advance(in Input) *Zone {
	a := &advance{
		old: z, in: in, dirty: map[model.Key]struct{}{}, before: map[model.Key]*model.Service{}, lists: map[string]*lists{},
		services: z.services.edit(), namespaces: z.namespaces.edit(), reverse: z.reverse.edit(), pods: z.pods.edit(),
	}
	for d := range in.Namespaces.Since(z.in.Namespaces) {
		a.countNamespace(strings.ToLower(d.Key.Name), d.Was, d.Is)
	}
	if z.c.Pods == PodsVerified {
		for d := range in.Pods.Since(z.in.Pods) {
			a.movePod(d)
		}
	}
	for d := range in.Slices.Since(z.in.Slices) {
		if d.Was {
			a.dropSlice(d.Old)
		}
		if d.Is {
			a.putSlice(d.New)
		}
	}
	for d := range in.Services.Since(z.in.Services) {
		a.dirty[d.Key] = struct{}{}
		a.before[d.Key] = d.Old
	}
	changed := make([]string, 0, len(a.dirty))
	for key := range a.dirty {
		a.recompile(key)
		if name, ok := serviceKey(key); ok {
			changed = append(changed, name)
		}
	}
	return &Zone{
		c: z.c, in: in, synced: in.synced(), step: z.step + 1, changed: changed,
		services: a.services.done(), namespaces: a.namespaces.done(), reverse: a.reverse.done(), pods: a.pods.done(),
	}
}

// advance is one step from a zone to the next.
type advance struct {
	old   *Zone
	in    Input
	dirty map[model.Key]struct{}
	// before has the Services that changed as they were, nil for new ones.
	before map[model.Key]*model.Service

	// lists are the slices of the Services that are touched, by their names below "svc".
	lists map[string]*lists

	services, namespaces, reverse, pods *edit
}

// lists are the slices of a Service before and after the step, in the order of their keys.
type lists struct{ old, now []*model.Slice }

func bySliceKey(s *model.Slice, k model.Key) int { return s.Key.Compare(k) }

// dropSlice takes a slice from its Service.
func (a *advance) dropSlice(s *model.Slice) {
	a.editSlices(s.Service, func(list []*model.Slice) []*model.Slice {
		if i, found := slices.BinarySearchFunc(list, s.Key, bySliceKey); found {
			return slices.Concat(list[:i], list[i+1:])
		}
		return list
	})
}

// putSlice gives a slice to its Service, in the place of one of the same name.
func (a *advance) putSlice(s *model.Slice) {
	a.editSlices(s.Service, func(list []*model.Slice) []*model.Slice {
		i, found := slices.BinarySearchFunc(list, s.Key, bySliceKey)
		rest := list[i:]
		if found {
			rest = list[i+1:]
		}
		return slices.Concat(list[:i], []*model.Slice{s}, rest)
	})
}

func (a *advance) editSlices(k model.Key, change func([]*model.Slice) []*model.Slice) {
	key, ok := serviceKey(k)
	if !ok {
		return
	}
	a.dirty[k] = struct{}{}
	l := a.slicesOf(key)
	l.now = change(l.now)
}

// slicesOf gives the slices of a Service as far as the step has come.
func (a *advance) slicesOf(key string) *lists {
	l, ok := a.lists[key]
	if !ok {
		list := a.old.slicesOf([]byte(key))
		l = &lists{list, list}
		a.lists[key] = l
	}
	return l
}

// recompile brings one Service, its namespace and its addresses up to date.
func (a *advance) recompile(k model.Key) {
	key, ok := serviceKey(k)
	if !ok {
		return
	}
	l := a.slicesOf(key)
	svc, is := a.in.Services.Get(k)
	old, changed := a.before[k]
	if !changed {
		old = svc
	}
	switch {
	case is:
		a.services.set([]byte(key), a.old.c.compile(key, svc, l.now).appendRecord(nil))
	case len(l.now) > 0:
		s := service{key: key, slices: l.now}
		a.services.set([]byte(key), s.appendRecord(nil))
	default:
		a.services.delete([]byte(key))
	}
	a.countNamespace(strings.ToLower(k.Namespace), old != nil, is)
	a.moveRefs(refsOf(key, old, l.old), refsOf(key, svc, l.now))
}

func (a *advance) countNamespace(ns string, was, is bool) {
	if was == is || !validLabel(ns) {
		return
	}
	value, _ := a.namespaces.get([]byte(ns))
	n, _ := binary.Uvarint(value)
	switch {
	case is:
		a.namespaces.set([]byte(ns), binary.AppendUvarint(nil, n+1))
	case n > 1:
		a.namespaces.set([]byte(ns), binary.AppendUvarint(nil, n-1))
	default:
		a.namespaces.delete([]byte(ns))
	}
}

// movePod brings the index of verified pod records in step with one pod.
func (a *advance) movePod(d store.Delta[model.Key, *model.PodAddr]) {
	ns := strings.ToLower(d.Key.Namespace)
	if d.Was {
		for _, ip := range d.Old.IPs {
			a.editPods(ip, func(list []string) []string {
				if i, found := slices.BinarySearch(list, ns); found {
					return slices.Delete(list, i, i+1)
				}
				return list
			})
		}
	}
	if d.Is {
		for _, ip := range d.New.IPs {
			a.editPods(ip, func(list []string) []string {
				i, _ := slices.BinarySearch(list, ns)
				return slices.Insert(list, i, ns)
			})
		}
	}
}

func (a *advance) editPods(ip netip.Addr, change func([]string) []string) {
	var list []string
	value, _ := a.pods.get([]byte(addrKey(ip)))
	for len(value) > 0 {
		var text []byte
		text, value = cutText(value)
		list = append(list, string(text))
	}
	for _, text := range change(list) {
		value = appendText(value, text)
	}
	if len(value) == 0 {
		a.pods.delete([]byte(addrKey(ip)))
	} else {
		a.pods.set([]byte(addrKey(ip)), value)
	}
}

// named is a ref with the address it is for.
type named struct {
	addr string
	ref  ref
}

// refsOf lists what the addresses of a Service and of its endpoints stand for.
func refsOf(key string, svc *model.Service, list []*model.Slice) map[named]struct{} {
	if svc == nil || svc.Type == model.ExternalName {
		return nil
	}
	refs := map[named]struct{}{}
	for _, ip := range svc.ClusterIPs {
		refs[named{addrKey(ip), ref{key: key}}] = struct{}{}
	}
	for _, sl := range list {
		for i := range sl.Endpoints {
			if e := &sl.Endpoints[i]; e.Ready && e.Addr.IsValid() {
				host, isName := hostLabel(e)
				if !isName {
					host = byAddr
				}
				refs[named{addrKey(e.Addr), ref{key: key, host: host}}] = struct{}{}
			}
		}
	}
	return refs
}

func (a *advance) moveRefs(old, now map[named]struct{}) {
	for n := range old {
		if _, ok := now[n]; ok {
			continue
		}
		value, _ := a.reverse.get([]byte(n.addr))
		list := slices.DeleteFunc(readRefs(value), func(r ref) bool { return r == n.ref })
		if len(list) == 0 {
			a.reverse.delete([]byte(n.addr))
		} else {
			a.reverse.set([]byte(n.addr), appendRefs(nil, list))
		}
	}
	for n := range now {
		if _, ok := old[n]; ok {
			continue
		}
		value, _ := a.reverse.get([]byte(n.addr))
		list := readRefs(value)
		if i, found := slices.BinarySearchFunc(list, n.ref, ref.compare); !found {
			a.reverse.set([]byte(n.addr), appendRefs(nil, slices.Insert(list, i, n.ref)))
		}
	}
}
