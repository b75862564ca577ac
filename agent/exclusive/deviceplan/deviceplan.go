package deviceplan

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"nodelet/agent/exclusive/alignplan"
	"nodelet/internal/podref"
)

// Request is one container's, for one resource.
type Request struct {
	Resource string
	Need     int
	// Known: a plugin has registered the resource. Healthy are its devices that work.
	Known   bool
	Healthy map[string]bool
	// Used are those that other containers have, Reusable those of the pod's init containers that ended before this one.
	Used, Reusable map[string]bool
	// Near are the NUMA nodes to prefer, and NUMA where the devices are.
	Near alignplan.Nodes
	NUMA func(id string) []int64
}

// near tells whether a device is near to some of the nodes.
func (r Request) near(id string, nodes alignplan.Nodes) bool {
	return slices.ContainsFunc(r.NUMA(id), func(n int64) bool { return nodes.Has(int(n)) })
}

// prefer orders devices: the near ones, those that it does not matter for, the far ones.
func (r Request) prefer(ids []string) []string {
	if r.Near == 0 {
		return ids
	}
	rank := func(id string) int {
		switch {
		case r.near(id, r.Near):
			return 0
		case len(r.NUMA(id)) == 0:
			return 1
		}
		return 2
	}
	slices.SortStableFunc(ids, func(a, b string) int { return rank(a) - rank(b) })
	return ids
}

// Hints are the NUMA nodes where the devices can be had; nowhere in particular where none of them says
// where it is.
func (r Request) Hints(nodes alignplan.Nodes) []alignplan.Hint {
	placed := false
	for id := range r.Healthy {
		placed = placed || len(r.NUMA(id)) > 0
	}
	if !placed {
		return alignplan.Anywhere()
	}
	return alignplan.Hints(nodes, alignplan.Supply{
		Need: r.Need,
		All:  func(at alignplan.Nodes) int { return r.count(at, func(string) bool { return true }) },
		Free: func(at alignplan.Nodes) int {
			for id := range r.Reusable {
				if r.Reusable[id] && !r.near(id, at) {
					return -1
				}
			}
			return r.count(at, func(id string) bool { return r.Reusable[id] || !r.Used[id] })
		},
	})
}

// count is how many healthy devices of those are near to some of the nodes.
func (r Request) count(at alignplan.Nodes, of func(id string) bool) (n int) {
	for id := range r.Healthy {
		if of(id) && r.near(id, at) {
			n++
		}
	}
	return n
}

// Aligned tells whether devices that say where they are are all near to the nodes that were asked for.
func (r Request) Aligned(ids []string) bool {
	return r.Near == 0 || !slices.ContainsFunc(ids, func(id string) bool { return len(r.NUMA(id)) > 0 && !r.near(id, r.Near) })
}

// Offer is what there is to choose from, and what must be among the choice.
type Offer struct {
	Available, Must []string
	Need            int
}

// Check says what can be chosen from; the error has upstream's words.
func (r Request) Check() (Offer, error) {
	switch {
	case !r.Known:
		return Offer{}, fmt.Errorf("cannot allocate unregistered device %s", r.Resource)
	case len(r.Healthy) == 0:
		return Offer{}, fmt.Errorf("no healthy devices present; cannot allocate unhealthy devices %s", r.Resource)
	}
	o := Offer{Need: r.Need}
	for _, id := range slices.Sorted(maps.Keys(r.Healthy)) {
		switch {
		case r.Reusable[id]:
			if len(o.Must) < r.Need {
				o.Must = append(o.Must, id)
			}
		case !r.Used[id]:
			o.Available = append(o.Available, id)
		}
	}
	o.Available = r.prefer(o.Available)
	left := r.Need - len(o.Must)
	if near := slices.IndexFunc(o.Available, func(id string) bool { return !r.Aligned([]string{id}) }); r.Near != 0 && near >= left {
		o.Available = o.Available[:near] // there is enough without the far ones
	}
	if len(o.Available) < left {
		return Offer{}, fmt.Errorf("requested number of devices unavailable for %s. Requested: %d, Available: %d", r.Resource, left, len(o.Available))
	}
	return o, nil
}

// Choose takes first what must be, then what the plugin prefers as far as that is there, then the rest in
// the order of the names.
func (o Offer) Choose(preferred []string) []string {
	chosen := slices.Clone(o.Must)
	for _, list := range [][]string{preferred, o.Available} {
		for _, id := range list {
			if len(chosen) < o.Need && slices.Contains(o.Available, id) && !slices.Contains(chosen, id) {
				chosen = append(chosen, id)
			}
		}
	}
	slices.Sort(chosen)
	return chosen
}

// Container is one of a pod, in the order in which they get their devices.
type Container struct {
	*corev1.Container
	// Lends: it ends before the containers after it begin, and what it had goes on to them.
	Lends bool
}

// Containers of a pod that can have something to themselves: all but those for debugging.
func Containers(pod *corev1.Pod) (all []Container) {
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		all = append(all, Container{c, c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways})
	}
	for i := range pod.Spec.Containers {
		all = append(all, Container{Container: &pod.Spec.Containers[i]})
	}
	return all
}

// Asks gives what a container of a pod asks of resources that plugins may have: those with a domain that is
// not Kubernetes' own, but for what the scheduler has allocated through a ResourceClaim (KEP-5004). Limits
// equal requests there.
func Asks(pod *corev1.Pod, c *corev1.Container) map[string]int {
	out := map[string]int{}
	for name, q := range c.Resources.Limits {
		if Extended(string(name)) && q.Value() > 0 && !podref.ByClaim(pod, c.Name, name) {
			out[string(name)] = int(q.Value())
		}
	}
	return out
}

// Extended tells whether a resource is one that plugins may have.
func Extended(name string) bool {
	domain, _, ok := strings.Cut(name, "/")
	return ok && domain != "kubernetes.io" && !strings.HasSuffix(domain, ".kubernetes.io") && !strings.HasPrefix(name, "requests.")
}

// Most is how many of something the containers of a pod have at the same time at most.
func Most(all []Container, of func(*corev1.Container) int) int {
	most, at := 0, 0
	for _, c := range all {
		n := of(c.Container)
		most = max(most, at+n)
		if !c.Lends {
			at += n
		}
	}
	return most
}
