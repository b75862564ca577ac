package evictplan

import (
	"cmp"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Used is what something takes of a disk.
type Used struct{ Bytes, Inodes uint64 }

func (u Used) plus(o Used) Used { return Used{u.Bytes + o.Bytes, u.Inodes + o.Inodes} }

// Pod is what one pod uses.
type Pod struct {
	Pod *corev1.Pod
	// Known: something could be measured.
	Known         bool
	Memory, Tasks uint64
	Containers    []Container
	// Volumes are its local volumes by name; EmptyDirs in memory are among them.
	Volumes map[string]Used
	// Local is what its local volumes on disk take together.
	Local Used
	// Ephemeral is all its local storage; unknown while EphemeralKnown is not set.
	Ephemeral      uint64
	EphemeralKnown bool
}

// Container is what one container uses.
type Container struct {
	Name         string
	Memory       uint64
	Rootfs, Logs Used
}

// systemCritical is the least priority of pods the system cannot do without.
const systemCritical = 2_000_000_000

// critical tells whether a pod may not be evicted: a static one would not come back.
func critical(p *corev1.Pod) bool {
	if source := p.Annotations["kubernetes.io/config.source"]; source != "" && source != "api" {
		return true
	}
	if _, mirror := p.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return true
	}
	return p.Spec.Priority != nil && *p.Spec.Priority >= systemCritical
}

func priority(p *corev1.Pod) int32 {
	if p.Spec.Priority == nil {
		return 0
	}
	return *p.Spec.Priority
}

// rank orders the pods, the one to go first: one that uses more than it requested, then one of lower
// priority, then the one that is furthest above its request.
func (m *maker) rank(s Signal) []Pod {
	pods := slices.Clone(m.Pods)
	type place struct {
		over bool
		by   int64
	}
	measure := func(p Pod) place {
		switch s.resource() {
		case corev1.ResourceMemory:
			by := int64(p.Memory) - request(p.Pod, corev1.ResourceMemory)
			return place{by > 0, by}
		case "pids":
			return place{false, int64(p.Tasks)}
		case inodes:
			used := int64(m.disk(s, p).Inodes)
			return place{used > 0, used}
		default:
			by := int64(m.disk(s, p).Bytes) - request(p.Pod, corev1.ResourceEphemeralStorage)
			return place{by > 0, by}
		}
	}
	slices.SortStableFunc(pods, func(a, b Pod) int {
		pa, pb := measure(a), measure(b)
		return cmp.Or(
			first(!a.Known, !b.Known), first(pa.over, pb.over), cmp.Compare(priority(a.Pod), priority(b.Pod)), cmp.Compare(pb.by, pa.by),
			cmp.Compare(a.Pod.Namespace, b.Pod.Namespace), cmp.Compare(a.Pod.Name, b.Pod.Name),
		)
	})
	return pods
}

// first puts true before false.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// disk is what a pod takes of the file system that a signal is about.
func (m *maker) disk(s Signal, p Pod) Used {
	var rootfs, logs Used
	for _, c := range p.Containers {
		rootfs, logs = rootfs.plus(c.Rootfs), logs.plus(c.Logs)
	}
	images := s == ImageFsAvailable || s == ImageFsInodesFree
	containers := s == ContainerFsAvailable || s == ContainerFsInodesFree
	switch {
	case !m.Layout.ImageFs:
		return rootfs.plus(logs).plus(p.Local)
	case !m.Layout.ContainerFs && (images || containers):
		return rootfs
	case !m.Layout.ContainerFs:
		return logs.plus(p.Local)
	case images:
		return Used{}
	case containers:
		return rootfs
	}
	return logs.plus(p.Local)
}

// request is what a pod requested of a resource.
func request(p *corev1.Pod, name corev1.ResourceName) int64 {
	if p.Spec.Resources != nil {
		if q, ok := p.Spec.Resources.Requests[name]; ok {
			return q.Value()
		}
	}
	var sum, most int64
	for i := range p.Spec.Containers {
		q := p.Spec.Containers[i].Resources.Requests[name]
		sum += q.Value()
	}
	for i := range p.Spec.InitContainers {
		q := p.Spec.InitContainers[i].Resources.Requests[name]
		most = max(most, q.Value())
	}
	overhead := p.Spec.Overhead[name]
	return max(sum, most) + overhead.Value()
}

// message is upstream's, which people know and programs read.
func (m *maker) message(t Threshold, p Pod) string {
	what := t.Signal.resource()
	msg := fmt.Sprintf("The node was low on resource: %s. ", what)
	o := m.Observations[t.Signal]
	msg += fmt.Sprintf("Threshold quantity: %s, available: %s. ", quantity(what, t.Value.Of(o.Capacity)), amount(what, int64(o.Available)))
	for _, c := range p.Containers {
		spec := find(p.Pod, c.Name)
		if spec == nil {
			continue
		}
		var used uint64
		switch what {
		case corev1.ResourceMemory:
			used = c.Memory
		case corev1.ResourceEphemeralStorage:
			used = c.Rootfs.Bytes + c.Logs.Bytes
		default:
			continue
		}
		asked := spec.Resources.Requests[what]
		if int64(used) > asked.Value() {
			msg += fmt.Sprintf("Container %s was using %s, request is %s, has larger consumption of %s. ", c.Name, amount(what, int64(used)), asked.String(), what)
		}
	}
	return msg
}

// quantity writes a threshold; amount a measured figure, in Ki as upstream does for memory and disks.
func quantity(what corev1.ResourceName, n int64) string {
	if what == inodes || what == "pids" {
		return resource.NewQuantity(n, resource.DecimalSI).String()
	}
	return resource.NewQuantity(n, resource.BinarySI).String()
}

func amount(what corev1.ResourceName, n int64) string {
	if what != inodes && what != "pids" && n >= 1024 {
		n = n / 1024 * 1024
	}
	return quantity(what, n)
}

func find(p *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// limited tells whether a pod has limits for local storage, which only we enforce.
func limited(p Pod) bool {
	for i := range p.Pod.Spec.Volumes {
		if e := p.Pod.Spec.Volumes[i].EmptyDir; e != nil && e.SizeLimit != nil && e.SizeLimit.Sign() > 0 {
			return true
		}
	}
	for i := range p.Pod.Spec.Containers {
		if q := p.Pod.Spec.Containers[i].Resources.Limits[corev1.ResourceEphemeralStorage]; !q.IsZero() {
			return true
		}
	}
	return false
}

// overLimits plans for pods that have broken a limit of their own.
func (m *maker) overLimits() {
	if !m.Full {
		return
	}
	for _, p := range m.Pods {
		if signal, message := m.overLimit(p); signal != "" && !critical(p.Pod) {
			m.plan.Evict = append(m.plan.Evict, Eviction{Pod: p.Pod, Signal: signal, Message: message, Grace: hardGrace})
		}
	}
}

func (m *maker) overLimit(p Pod) (signal, message string) {
	for i := range p.Pod.Spec.Volumes {
		v := &p.Pod.Spec.Volumes[i]
		if v.EmptyDir == nil || v.EmptyDir.SizeLimit == nil || v.EmptyDir.SizeLimit.Sign() <= 0 {
			continue
		}
		if used, ok := p.Volumes[v.Name]; ok && used.Bytes > uint64(v.EmptyDir.SizeLimit.Value()) {
			return "emptydirfs.limit", fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", v.Name, v.EmptyDir.SizeLimit.String())
		}
	}
	total, all := resource.Quantity{}, true
	for i := range p.Pod.Spec.Containers {
		q, ok := p.Pod.Spec.Containers[i].Resources.Limits[corev1.ResourceEphemeralStorage]
		total.Add(q)
		all = all && ok
	}
	// As upstream, the sum counts as soon as one container has a limit.
	if !total.IsZero() && p.EphemeralKnown && p.Ephemeral > uint64(total.Value()) {
		return "ephemeralpodfs.limit", fmt.Sprintf("Pod ephemeral local storage usage exceeds the total limit of containers %s. ", total.String())
	}
	for _, c := range p.Containers {
		spec := find(p.Pod, c.Name)
		if spec == nil {
			continue
		}
		used := c.Logs.Bytes
		if !m.Layout.ImageFs {
			used += c.Rootfs.Bytes
		}
		if q := spec.Resources.Limits[corev1.ResourceEphemeralStorage]; !q.IsZero() && used > uint64(q.Value()) {
			return "ephemeralcontainerfs.limit", fmt.Sprintf("Container %s exceeded its local ephemeral storage limit %q. ", c.Name, q.String())
		}
	}
	return "", ""
}
