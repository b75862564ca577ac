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
			a.dropSlice(d.Old.Service, d.Key)
		}
		if d.Is {
			a.putSlice(d.New.Service, d.Key)
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

	// body and record are where one Service after the other is compiled, value
	// where what an index is given is written.
	body, record, value []byte
}

// lists are the keys of the slices of a Service before and after the step, in
// their order. They are read one Service after the other: there may be many.
type lists struct{ old, now []model.Key }

// dropSlice takes a slice from its Service.
func (a *advance) dropSlice(from, key model.Key) {
	a.editSlices(from, func(list []model.Key) []model.Key {
		if i, found := slices.BinarySearchFunc(list, key, model.Key.Compare); found {
			return slices.Concat(list[:i], list[i+1:])
		}
		return list
	})
}

// putSlice gives a slice to its Service.
func (a *advance) putSlice(to, key model.Key) {
	a.editSlices(to, func(list []model.Key) []model.Key {
		i, found := slices.BinarySearchFunc(list, key, model.Key.Compare)
		if found {
			return list
		}
		return slices.Concat(list[:i], []model.Key{key}, list[i:])
	})
}

func (a *advance) editSlices(k model.Key, change func([]model.Key) []model.Key) {
	key, ok := serviceKey(k)
	if !ok {
		return
	}
	a.dirty[k] = struct{}{}
	l := a.listsOf(key)
	l.now = change(l.now)
}

// listsOf gives the slices of a Service as far as the step has come.
func (a *advance) listsOf(key string) *lists {
	l, ok := a.lists[key]
	if !ok {
		l = &lists{}
		if value, ok := a.old.services.get([]byte(key)); ok {
			l.old = slices.Collect(record(value).sliceKeys([]byte(key)))
			l.now = l.old
		}
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
	l := a.listsOf(key)
	now := slicesIn(a.in, slices.Values(l.now))
	svc, is := a.in.Services.Get(k)
	old, changed := a.before[k]
	if !changed {
		old = svc
	}
	if s := (service{key: key, slices: now, body: a.body[:0]}); is || len(now) > 0 {
		if is {
			a.old.c.compile(&s, svc)
			a.body = s.body
		}
		a.record = s.appendRecord(a.record[:0])
		a.services.set([]byte(key), a.record)
	} else {
		a.services.delete([]byte(key))
	}
	a.countNamespace(strings.ToLower(k.Namespace), old != nil, is)
	a.moveRefs(refsOf(key, old, slicesIn(a.old.in, slices.Values(l.old))), refsOf(key, svc, now))
}

func (a *advance) countNamespace(ns string, was, is bool) {
	if was == is || !validLabel(ns) {
		return
	}
	value, _ := a.namespaces.get([]byte(ns))
	n, _ := binary.Uvarint(value)
	switch {
	case is:
		n++
	case n > 1:
		n--
	default:
		a.namespaces.delete([]byte(ns))
		return
	}
	a.value = binary.AppendUvarint(a.value[:0], n)
	a.namespaces.set([]byte(ns), a.value)
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

func (n named) compare(o named) int {
	if c := strings.Compare(n.addr, o.addr); c != 0 {
		return c
	}
	return n.ref.compare(o.ref)
}

// refsOf lists what the addresses of a Service and of its endpoints stand for, in order.
func refsOf(key string, svc *model.Service, list []*model.Slice) (refs []named) {
	if svc == nil || svc.Type == model.ExternalName {
		return nil
	}
	size := len(svc.ClusterIPs)
	for _, sl := range list {
		size += len(sl.Endpoints)
	}
	refs = make([]named, 0, size)
	for _, ip := range svc.ClusterIPs {
		refs = append(refs, named{addrKey(ip), ref{key: key}})
	}
	for _, sl := range list {
		for i := range sl.Endpoints {
			e := &sl.Endpoints[i]
			if !e.Ready || !e.Addr.IsValid() {
				continue
			}
			host := byAddr
			if validLabel(e.Hostname) {
				host = strings.ToLower(e.Hostname)
			}
			refs = append(refs, named{addrKey(e.Addr), ref{key: key, host: host}})
		}
	}
	slices.SortFunc(refs, named.compare)
	return slices.Compact(refs)
}

// moveRefs brings the reverse names from those of one list to those of another.
func (a *advance) moveRefs(old, now []named) {
	for _, n := range old {
		if _, stays := slices.BinarySearchFunc(now, n, named.compare); stays {
			continue
		}
		value, _ := a.reverse.get([]byte(n.addr))
		list := slices.DeleteFunc(readRefs(value), func(r ref) bool { return r == n.ref })
		if len(list) == 0 {
			a.reverse.delete([]byte(n.addr))
		} else {
			a.setRefs(n.addr, list)
		}
	}
	for _, n := range now {
		if _, was := slices.BinarySearchFunc(old, n, named.compare); was {
			continue
		}
		value, _ := a.reverse.get([]byte(n.addr))
		list := readRefs(value)
		if i, found := slices.BinarySearchFunc(list, n.ref, ref.compare); !found {
			a.setRefs(n.addr, slices.Insert(list, i, n.ref))
		}
	}
}

func (a *advance) setRefs(addr string, list []ref) {
	a.value = appendRefs(a.value[:0], list)
	a.reverse.set([]byte(addr), a.value)
}
