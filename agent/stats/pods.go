package stats

import (
	"cmp"
	"context"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/internal/cgroup"
	"nodelet/internal/model"
	"nodelet/internal/store"
)

// pod reads the cgroups of one pod.
func (s *Stats) pod(p *corev1.Pod, rt *model.PodRuntime, now time.Time) Pod {
	out := Pod{Pod: p, Cgroup: s.deps.Cgroups.Path(cgroup.Class(p), rt.UID)}
	if u, err := s.deps.Cgroups.Usage(out.Cgroup, now); err == nil {
		out.Usage = &u
	}
	for i := range rt.Sandboxes {
		if sb := &rt.Sandboxes[i]; sb.Ready {
			out.Sandbox = sb
			break
		}
	}
	if sb := out.Sandbox; sb != nil && !sb.HostNetwork && !p.Spec.HostNetwork {
		if pid := s.deps.Cgroups.Process(s.deps.Cgroups.Container(out.Cgroup, sb.ID)); pid > 0 {
			out.Interfaces = interfaces(s.cfg.Proc, pid)
		}
	}
	for i := range rt.Containers {
		c := &rt.Containers[i]
		if c.State != model.ContainerRunning {
			continue
		}
		ctr := Container{Container: c, Cgroup: s.deps.Cgroups.Container(out.Cgroup, c.ID)}
		if u, err := s.deps.Cgroups.Usage(ctr.Cgroup, now); err == nil {
			ctr.Usage = &u
		}
		out.Containers = append(out.Containers, ctr)
	}
	return out
}

// askUsage asks the runtime for containers whose cgroups are not where we expect them, once for all;
// false when one is still unknown.
func (s *Stats) askUsage(ctx context.Context, missing []*Container) bool {
	resp, err := s.deps.Runtime.ListContainerStats(ctx, &runtimev1.ListContainerStatsRequest{})
	if err != nil {
		s.deps.Log.Debug("ask the runtime for usage", "err", err)
		return false
	}
	byID := map[string]*runtimev1.ContainerStats{}
	for _, st := range resp.GetStats() {
		byID[st.GetAttributes().GetId()] = st
	}
	complete := true
	for _, m := range missing {
		st, ok := byID[m.Container.ID]
		if !ok {
			complete = false
			continue
		}
		m.Usage = &cgroup.Usage{
			At:         time.Unix(0, st.GetCpu().GetTimestamp()),
			CPU:        time.Duration(st.GetCpu().GetUsageCoreNanoSeconds().GetValue()),
			WorkingSet: st.GetMemory().GetWorkingSetBytes().GetValue(),
			Memory:     st.GetMemory().GetUsageBytes().GetValue(),
			RSS:        st.GetMemory().GetRssBytes().GetValue(),
			PageFaults: st.GetMemory().GetPageFaults().GetValue(), MajorPageFaults: st.GetMemory().GetMajorPageFaults().GetValue(),
		}
	}
	return complete
}

// wanted are the figures that a full reading needs.
func (s *Stats) wanted(snap *store.Snapshot) []string {
	keys := []string{layersKey}
	for uid, p := range snap.Pods.All() {
		if rt, ok := snap.Runtime.Get(uid); !ok || len(rt.Sandboxes) == 0 {
			continue
		}
		for _, v := range volumes(p, snap) {
			if key := v.key(); key != "" {
				keys = append(keys, key)
			}
		}
	}
	return keys
}

// storage adds what a pod uses of disks.
func (s *Stats) storage(p *Pod, snap *store.Snapshot) {
	node := fsSpace(s.cfg.KubeletRoot)
	if node == nil {
		return
	}
	total, complete := *node, true
	total.Used, total.InodesUsed = 0, 0
	count := func(sp *Space) {
		if sp == nil {
			complete = false
			return
		}
		total.Used += sp.Used
		total.InodesUsed += sp.InodesUsed
	}
	layers, known := s.figures.layers()
	logs := filepath.Join(s.cfg.PodLogsRoot, p.Pod.Namespace+"_"+p.Pod.Name+"_"+string(p.Pod.UID))
	for i := range p.Containers {
		c := &p.Containers[i]
		if l, ok := layers[c.Container.ID]; ok {
			c.Rootfs = l.within(s.figures.containerFs())
		}
		if known { // one that has only just started has nothing yet
			count(c.Rootfs.orNothing())
		} else {
			count(c.Rootfs)
		}
		c.Logs = files(filepath.Join(logs, c.Container.Name)).within(node)
		count(c.Logs)
	}
	for _, v := range volumes(p.Pod, snap) {
		sp := s.volume(v)
		if v.local {
			count(sp)
		}
		if sp != nil {
			p.Volumes = append(p.Volumes, Volume{Name: v.name, Claim: v.claim, Local: v.local, Space: *sp})
		}
	}
	if complete {
		p.Ephemeral = &total
	}
}

// volume is where one volume is and how it is measured.
type volume struct {
	name, claim, path string
	// local: it takes up the node's local storage; walk: its files are added up; driver: a CSI driver made it for the pod alone.
	local, walk, driver bool
}

// volumes are the volumes of a pod that can be measured: those with a directory of their own. What a
// hostPath shows belongs to the node.
func volumes(p *corev1.Pod, snap *store.Snapshot) []volume {
	row, ok := snap.Volumes.Get(model.UID(p.UID))
	if !ok {
		return nil
	}
	var all []volume
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		path := cmp.Or(row.HostPaths[v.Name], row.Devices[v.Name])
		if path == "" {
			continue
		}
		switch {
		case v.EmptyDir != nil:
			memory := v.EmptyDir.Medium != corev1.StorageMediumDefault
			all = append(all, volume{name: v.Name, path: path, local: !memory, walk: !memory})
		case v.Secret != nil, v.Projected != nil:
			all = append(all, volume{name: v.Name, path: path}) // on a tmpfs
		case v.ConfigMap != nil, v.DownwardAPI != nil:
			all = append(all, volume{name: v.Name, path: path, local: true, walk: true})
		case v.PersistentVolumeClaim != nil:
			all = append(all, volume{name: v.Name, claim: v.PersistentVolumeClaim.ClaimName, path: path})
		case v.Ephemeral != nil:
			all = append(all, volume{name: v.Name, claim: p.Name + "-" + v.Name, path: path})
		case v.CSI != nil:
			all = append(all, volume{name: v.Name, path: path, driver: true})
		}
	}
	return all
}

// key is the figure that measures a volume; empty when that takes no time.
func (v volume) key() string {
	switch {
	case v.walk:
		return v.path
	case v.claim != "" || v.driver:
		return fsKey + v.path // whose server may be gone
	}
	return ""
}

func (s *Stats) volume(v volume) *Space {
	if v.key() == "" {
		return fsSpace(v.path)
	}
	sum, ok := s.figures.last(v.key())
	if !ok || !v.walk {
		return sum
	}
	return sum.within(fsSpace(v.path))
}

// Claim is what is on the volume of a claim.
type Claim struct {
	Namespace, Claim string
	Space            Space
}

// Claims gives the volumes that have claims, each once, whichever pods use them, as they were when
// somebody last asked; none the first time.
func (s *Stats) Claims() []Claim {
	snap := s.deps.Store.Snapshot()
	seen := map[model.Key]bool{}
	var all []Claim
	for _, p := range snap.Pods.All() {
		for _, v := range volumes(p, snap) {
			key := model.Key{Namespace: p.Namespace, Name: v.claim}
			if v.claim == "" || seen[key] {
				continue
			}
			seen[key] = true
			s.figures.ask(v.key())
			if sp, ok := s.figures.last(v.key()); ok {
				all = append(all, Claim{p.Namespace, v.claim, *sp})
			}
		}
	}
	return all
}
