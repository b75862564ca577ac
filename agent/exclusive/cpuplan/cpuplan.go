package cpuplan

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/podref"
)

// CPU is where one logical CPU sits. Cache is the last level of caches that it shares with others.
type CPU struct{ ID, Core, Cache, Socket, NUMA int }

// Topology is the machine's: all CPUs that are online.
type Topology []CPU

// All are the ids.
func (t Topology) All() (s Set) {
	for _, c := range t {
		s = append(s, c.ID)
	}
	slices.Sort(s)
	return s
}

// NUMA are the nodes that a set lies on.
func (t Topology) NUMA(s Set) (nodes []int64) {
	for _, c := range t {
		if s.Has(c.ID) && !slices.Contains(nodes, int64(c.NUMA)) {
			nodes = append(nodes, int64(c.NUMA))
		}
	}
	slices.Sort(nodes)
	return nodes
}

// Options are those of the static policy that are supported.
type Options struct {
	// WholeCores is full-pcpus-only: what does not ask for whole cores is rejected.
	WholeCores bool
	// Strict is strict-cpu-reservation: reserved CPUs are not in the shared pool.
	Strict bool
	// SpreadNodes is distribute-cpus-across-numa: what needs more than one NUMA node gets evenly much of each.
	SpreadNodes bool
	// SpreadCores is distribute-cpus-across-cores: as few threads of a core as possible.
	SpreadCores bool
	// WholeCaches is prefer-align-cpus-by-uncorecache: as few last-level caches as possible.
	WholeCaches bool
	// Sockets is align-by-socket: with a topology policy, CPUs of one socket are near enough.
	Sockets bool
}

// Check says which options contradict one another.
func (o Options) Check() error {
	switch {
	case o.SpreadCores && o.WholeCores:
		return errors.New("distribute-cpus-across-cores and full-pcpus-only contradict one another")
	case o.SpreadCores && o.SpreadNodes:
		return errors.New("distribute-cpus-across-cores and distribute-cpus-across-numa cannot be had together")
	case o.WholeCaches && (o.SpreadCores || o.SpreadNodes):
		return errors.New("prefer-align-cpus-by-uncorecache cannot be had together with distribute-cpus-across-cores or distribute-cpus-across-numa")
	}
	return nil
}

// Reserved chooses the CPUs that nobody has to itself: those named, or as many as are reserved in
// milli-CPUs, rounded up, taken as for a container.
func Reserved(t Topology, named Set, milli int64) (Set, error) {
	if len(named) > 0 {
		if odd := named.Without(t.All()); len(odd) > 0 {
			return nil, fmt.Errorf("reserved CPUs %s: this machine has no CPU %s, but %s", named, odd, t.All())
		}
		return named, nil
	}
	n := int((milli + 999) / 1000)
	if n == 0 {
		return nil, fmt.Errorf("the static CPU policy needs CPU reserved for the system: set reservedSystemCPUs, or cpu in systemReserved or kubeReserved")
	}
	s, ok := Options{}.Take(t, t.All(), n)
	if !ok || len(s) == len(t) {
		return nil, fmt.Errorf("%d CPUs are reserved of %d: nothing is left for pods", n, len(t))
	}
	return s, nil
}

// Wants is how many CPUs a container is to have to itself; 0: none. Only pods of class Guaranteed whose
// container asks for whole CPUs, and whose resources are not those of the pod as a whole, get any.
func Wants(pod *corev1.Pod, c *corev1.Container) int {
	if podref.QOS(pod) != corev1.PodQOSGuaranteed || pod.Spec.Resources != nil && len(pod.Spec.Resources.Limits)+len(pod.Spec.Resources.Requests) > 0 {
		return 0
	}
	q := c.Resources.Requests[corev1.ResourceCPU]
	if q.MilliValue() == 0 || q.MilliValue()%1000 != 0 {
		return 0
	}
	return int(q.Value())
}

// SMTError is upstream's words for a request that does not fill cores.
func SMTError(n, perCore int) error {
	return fmt.Errorf("SMT Alignment Error: requested %d cpus not multiple cpus per core = %d", n, perCore)
}

// PerCore is the number of threads of a core.
func (t Topology) PerCore() int {
	cores := map[int]bool{}
	for _, c := range t {
		cores[c.Core] = true
	}
	return len(t) / max(len(cores), 1)
}

// Take takes n of the free CPUs as the options say; false when there are not enough.
func (o Options) Take(t Topology, free Set, n int) (Set, bool) {
	if n > len(free) {
		return nil, false
	}
	if o.SpreadNodes {
		if s := o.spread(t, free, n); s != nil {
			return s, true
		}
	}
	return o.pack(t, free, n), true
}

// pack takes n of the free CPUs, of which there are enough, those that are near to one another.
func (o Options) pack(t Topology, free Set, n int) Set {
	a := taker{free: free, left: n}
	a.whole(t, groups(t, func(c CPU) int { return c.NUMA }))
	a.whole(t, groups(t, func(c CPU) int { return c.Socket }))
	if o.WholeCaches {
		caches := groups(t, func(c CPU) int { return c.Cache })
		a.whole(t, caches)
		a.within(t, caches)
	}
	if o.SpreadCores {
		a.apart(t)
	} else {
		a.whole(t, groups(t, func(c CPU) int { return c.Core }))
	}
	a.single(t)
	slices.Sort(a.taken)
	return a.taken
}

// taker is the state of one Take.
type taker struct {
	free, taken Set
	left        int
}

// groups are the CPUs by what they share, in the order of their numbers.
func groups(t Topology, by func(CPU) int) []Set {
	all := map[int]Set{}
	for _, c := range t {
		all[by(c)] = append(all[by(c)], c.ID)
	}
	var out []Set
	for _, key := range slices.Sorted(maps.Keys(all)) {
		slices.Sort(all[key])
		out = append(out, all[key])
	}
	return out
}

// whole takes groups that are free as a whole.
func (a *taker) whole(t Topology, all []Set) {
	var free Set
	for _, g := range all {
		if len(g.And(a.free)) == len(g) {
			free = free.With(g)
		}
	}
	before := a.nearness(t, free)
	slices.SortStableFunc(all, func(x, y Set) int { return before(t.of(x[0]), t.of(y[0])) })
	for _, g := range all {
		if len(g) <= a.left && len(g.And(free)) == len(g) {
			a.take(g)
		}
	}
}

// single takes single CPUs, of the cores with the fewest free ones first, so that whole ones stay whole.
func (a *taker) single(t Topology) {
	core := map[int]int{}
	var free []CPU
	for _, c := range t {
		if a.free.Has(c.ID) {
			free = append(free, c)
			core[c.Core]++
		}
	}
	before := a.nearness(t, a.free)
	slices.SortStableFunc(free, func(x, y CPU) int {
		return cmp.Or(before(x, y), cmp.Compare(core[x.Core], core[y.Core]), cmp.Compare(x.Core, y.Core), cmp.Compare(x.ID, y.ID))
	})
	for _, c := range free {
		if a.left > 0 {
			a.take(Set{c.ID})
		}
	}
}

// nearness orders CPUs by their node: first those where this container has CPUs already, then those that
// have all that is left, then those with the fewest free ones.
func (a *taker) nearness(t Topology, free Set) func(x, y CPU) int {
	has, mine := map[int]int{}, map[int]int{}
	for _, c := range t {
		if free.Has(c.ID) {
			has[c.NUMA]++
		}
		if a.taken.Has(c.ID) {
			mine[c.NUMA] = -1
		}
	}
	short := func(c CPU) int {
		if has[c.NUMA] >= a.left {
			return 0
		}
		return 1
	}
	return func(x, y CPU) int {
		return cmp.Or(cmp.Compare(mine[x.NUMA], mine[y.NUMA]), cmp.Compare(short(x), short(y)), cmp.Compare(has[x.NUMA], has[y.NUMA]), cmp.Compare(x.NUMA, y.NUMA))
	}
}

// of is a CPU by its id; it is there.
func (t Topology) of(id int) CPU {
	for _, c := range t {
		if c.ID == id {
			return c
		}
	}
	return CPU{}
}

func (a *taker) take(s Set) {
	a.taken, a.free, a.left = a.taken.With(s), a.free.Without(s), a.left-len(s)
}
