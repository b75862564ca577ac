package evict

import (
	"nodelet/agent/evict/evictplan"
	"nodelet/agent/stats"
	"nodelet/internal/model"
)

// observe turns what was measured of the node into observations.
func observe(f *evictplan.Facts, n stats.Node) {
	f.Observations = map[evictplan.Signal]evictplan.Observation{}
	set := func(s evictplan.Signal, available, capacity uint64) {
		if capacity > 0 {
			f.Observations[s] = evictplan.Observation{Available: min(available, capacity), Capacity: capacity}
		}
	}
	if n.Usage != nil {
		set(evictplan.MemoryAvailable, n.Memory-min(n.Memory, n.Usage.WorkingSet), n.Memory)
	}
	if pods := n.System["pods"]; pods != nil && pods.MemoryLimit > 0 {
		set(evictplan.AllocatableMemoryAvailable, pods.MemoryLimit-min(pods.MemoryLimit, pods.WorkingSet), pods.MemoryLimit)
	}
	set(evictplan.PIDAvailable, n.MaxProcesses-min(n.MaxProcesses, n.Processes), n.MaxProcesses)
	for _, fs := range []struct {
		space         *stats.Space
		bytes, inodes evictplan.Signal
	}{
		{n.Fs, evictplan.NodeFsAvailable, evictplan.NodeFsInodesFree},
		{n.ImageFs, evictplan.ImageFsAvailable, evictplan.ImageFsInodesFree},
		{n.ContainerFs, evictplan.ContainerFsAvailable, evictplan.ContainerFsInodesFree},
	} {
		if fs.space != nil {
			set(fs.bytes, fs.space.Available, fs.space.Capacity)
			set(fs.inodes, fs.space.InodesFree, fs.space.InodesAll) // none on file systems without a fixed number
		}
	}
	if n.Fs != nil && n.ImageFs != nil && n.ContainerFs != nil {
		f.Layout = evictplan.Layout{ImageFs: n.ImageFs.Device != n.Fs.Device, ContainerFs: n.ContainerFs.Device != n.ImageFs.Device}
	}
}

// used adds what was measured to the pods.
func used(pods []evictplan.Pod, all []stats.Pod) []evictplan.Pod {
	measured := map[model.UID]*stats.Pod{}
	for i := range all {
		measured[model.UID(all[i].Pod.UID)] = &all[i]
	}
	out := make([]evictplan.Pod, 0, len(pods))
	for _, p := range pods {
		if m := measured[model.UID(p.Pod.UID)]; m != nil {
			p = usedBy(p, m)
		}
		out = append(out, p)
	}
	return out
}

func usedBy(p evictplan.Pod, m *stats.Pod) evictplan.Pod {
	p.Volumes = map[string]evictplan.Used{}
	if m.Usage != nil {
		p.Known, p.Memory, p.Tasks = true, m.Usage.WorkingSet, m.Usage.PIDs
	}
	for _, c := range m.Containers {
		ctr := evictplan.Container{Name: c.Container.Name, Rootfs: of(c.Rootfs), Logs: of(c.Logs)}
		if c.Usage != nil {
			ctr.Memory = c.Usage.WorkingSet
		}
		p.Containers = append(p.Containers, ctr)
	}
	for _, v := range m.Volumes {
		u := of(&v.Space)
		p.Volumes[v.Name] = u
		if v.Local {
			p.Local.Bytes += u.Bytes
			p.Local.Inodes += u.Inodes
		}
	}
	if m.Ephemeral != nil {
		p.Ephemeral, p.EphemeralKnown = m.Ephemeral.Used, true
	}
	return p
}

func of(s *stats.Space) evictplan.Used {
	if s == nil {
		return evictplan.Used{}
	}
	return evictplan.Used{Bytes: s.Used, Inodes: s.InodesUsed}
}
