package zone

import (
	"cmp"
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

	services   index[*service]
	namespaces index[int] // number of Services, and one for the namespace itself
	reverse    index[[]ref]
	pods       index[[]string] // namespaces of the pods with an address, sorted, one entry per pod

	// step counts the calls of Advance since New; changed are the keys of the
	// Services that the last one compiled.
	step    uint64
	changed []string
}

// ref is one name an address stands for.
type ref struct {
	key  string // of the Service
	host string // hostname, or byAddr; empty for a cluster IP
}

// byAddr stands for the address as a label, which need not be kept. No label has a dot.
const byAddr = "."

func (r ref) compare(o ref) int {
	// A cluster IP goes before any endpoint and alone, see appendPTR.
	if c := cmp.Compare(min(len(r.host), 1), min(len(o.host), 1)); c != 0 {
		return c
	}
	if c := strings.Compare(r.key, o.key); c != 0 {
		return c
	}
	return strings.Compare(r.host, o.host)
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
		old: z, in: in, dirty: map[model.Key]struct{}{}, before: map[model.Key]*model.Service{},
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
		services: a.services.x, namespaces: a.namespaces.x, reverse: a.reverse.x, pods: a.pods.x,
	}
}

// advance is one step from a zone to the next.
type advance struct {
	old   *Zone
	in    Input
	dirty map[model.Key]struct{}
	// before has the Services that changed as they were, nil for new ones.
	before map[model.Key]*model.Service

	services   *edit[*service]
	namespaces *edit[int]
	reverse    *edit[[]ref]
	pods       *edit[[]string]
}

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
	next := service{key: key}
	if old, ok := a.services.get(key); ok {
		next = *old
	}
	next.slices = change(next.slices)
	a.services.set(key, &next)
}

// recompile brings one Service, its namespace and its addresses up to date.
func (a *advance) recompile(k model.Key) {
	key, ok := serviceKey(k)
	if !ok {
		return
	}
	var list, oldList []*model.Slice
	if s, ok := a.services.get(key); ok {
		key, list = s.key, s.slices // one copy of the key for all that refers to it
	}
	if s, ok := a.old.services.get([]byte(key)); ok {
		oldList = s.slices
	}
	svc, is := a.in.Services.Get(k)
	old, changed := a.before[k]
	if !changed {
		old = svc
	}
	switch {
	case is:
		s := a.old.c.compile(svc, list)
		key = s.key
		a.services.set(s.indexKey(), s)
	case len(list) > 0:
		a.services.set(key, &service{key: key, slices: list})
	default:
		a.services.delete(key)
	}
	a.countNamespace(strings.ToLower(k.Namespace), old != nil, is)
	a.moveRefs(refsOf(key, old, oldList), refsOf(key, svc, list))
}

func (a *advance) countNamespace(ns string, was, is bool) {
	n, _ := a.namespaces.get(ns)
	switch {
	case is && !was:
		a.namespaces.set(ns, n+1)
	case was && !is && n > 1:
		a.namespaces.set(ns, n-1)
	case was && !is:
		a.namespaces.delete(ns)
	}
}

// movePod brings the index of verified pod records in step with one pod.
func (a *advance) movePod(d store.Delta[model.Key, *model.PodAddr]) {
	ns := strings.ToLower(d.Key.Namespace)
	if d.Was {
		for _, ip := range d.Old.IPs {
			list, _ := a.pods.get(addrKey(ip))
			if i, found := slices.BinarySearch(list, ns); found && len(list) > 1 {
				a.pods.set(addrKey(ip), slices.Concat(list[:i], list[i+1:]))
			} else if found {
				a.pods.delete(addrKey(ip))
			}
		}
	}
	if d.Is {
		for _, ip := range d.New.IPs {
			list, _ := a.pods.get(addrKey(ip))
			i, _ := slices.BinarySearch(list, ns)
			a.pods.set(addrKey(ip), slices.Concat(list[:i], []string{ns}, list[i:]))
		}
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
		list, _ := a.reverse.get(n.addr)
		list = slices.DeleteFunc(slices.Clone(list), func(r ref) bool { return r == n.ref })
		if len(list) == 0 {
			a.reverse.delete(n.addr)
		} else {
			a.reverse.set(n.addr, list)
		}
	}
	for n := range now {
		if _, ok := old[n]; ok {
			continue
		}
		list, _ := a.reverse.get(n.addr)
		if i, found := slices.BinarySearchFunc(list, n.ref, ref.compare); !found {
			a.reverse.set(n.addr, slices.Concat(list[:i], []ref{n.ref}, list[i:]))
		}
	}
}
