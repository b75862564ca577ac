package server

import (
	"cmp"
	"net/http"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"nodelet/agent/stats"
	"nodelet/internal/cgroup"
)

// summary gives what the node, its pods and their containers use, as the Summary API has it. With
// only_cpu_and_memory it leaves out what costs more than reading cgroups.
func (s *Server) summary(w http.ResponseWriter, r *http.Request, _ request) {
	depth := stats.Full
	if only := r.URL.Query().Get("only_cpu_and_memory"); only == "true" || only == "1" {
		depth = stats.Cheap
	}
	all := s.deps.Stats.Read(r.Context(), depth)
	s.usage.begin()
	defer s.usage.end()
	sum := &statsapi.Summary{Node: s.nodeStats(all.Node), Pods: []statsapi.PodStats{}}
	for _, p := range all.Pods {
		sum.Pods = append(sum.Pods, s.podStats(p))
	}
	slices.SortFunc(sum.Pods, func(a, b statsapi.PodStats) int {
		return cmp.Or(cmp.Compare(a.PodRef.Namespace, b.PodRef.Namespace), cmp.Compare(a.PodRef.Name, b.PodRef.Name))
	})
	s.writeJSON(w, sum)
}

func (s *Server) nodeStats(n stats.Node) statsapi.NodeStats {
	st := statsapi.NodeStats{
		NodeName: s.cfg.NodeName, StartTime: metav1.NewTime(n.Boot),
		CPU: s.cpu("/", n.Usage), Memory: memory(n.Usage), IO: pressureOfIO(n.Usage),
		Network: network(n.At, n.Interfaces), Fs: space(n.Fs),
		Swap: &statsapi.SwapStats{Time: metav1.NewTime(n.At), SwapAvailableBytes: ptr(n.SwapFree), SwapUsageBytes: ptr(n.Swap - min(n.Swap, n.SwapFree))},
	}
	if n.Usage != nil && n.Memory > n.Usage.WorkingSet {
		st.Memory.AvailableBytes = ptr(n.Memory - n.Usage.WorkingSet)
	}
	if n.ImageFs != nil || n.ContainerFs != nil {
		st.Runtime = &statsapi.RuntimeStats{ImageFs: space(n.ImageFs), ContainerFs: space(n.ContainerFs)}
	}
	if n.MaxProcesses > 0 {
		st.Rlimit = &statsapi.RlimitStats{Time: metav1.NewTime(n.At), MaxPID: ptr(int64(n.MaxProcesses)), NumOfRunningProcesses: ptr(int64(n.Processes))}
	}
	for _, name := range []string{"kubelet", "runtime", "pods"} {
		u := n.System[name]
		if u == nil {
			continue
		}
		c := statsapi.ContainerStats{
			Name: name, StartTime: metav1.NewTime(n.Boot),
			CPU: s.cpu("system/"+name, u), Memory: memory(u), IO: pressureOfIO(u), Swap: swap(u),
		}
		if name == "pods" && u.MemoryLimit == 0 && n.Memory > u.WorkingSet {
			c.Memory.AvailableBytes = ptr(n.Memory - u.WorkingSet)
		}
		st.SystemContainers = append(st.SystemContainers, c)
	}
	return st
}

func (s *Server) podStats(p stats.Pod) statsapi.PodStats {
	st := statsapi.PodStats{
		PodRef:     statsapi.PodReference{Name: p.Pod.Name, Namespace: p.Pod.Namespace, UID: string(p.Pod.UID)},
		Containers: []statsapi.ContainerStats{},
		CPU:        s.cpu(string(p.Pod.UID), p.Usage), Memory: memory(p.Usage), IO: pressureOfIO(p.Usage), Swap: swap(p.Usage),
		EphemeralStorage: space(p.Ephemeral),
	}
	if p.Sandbox != nil {
		st.StartTime = metav1.NewTime(p.Sandbox.Created)
	}
	if p.Usage != nil {
		st.Network = network(p.Usage.At, p.Interfaces)
		if p.Usage.PIDs > 0 {
			st.ProcessStats = &statsapi.ProcessStats{ProcessCount: ptr(p.Usage.PIDs)}
		}
	}
	for _, c := range p.Containers {
		st.Containers = append(st.Containers, statsapi.ContainerStats{
			Name: c.Container.Name, StartTime: metav1.NewTime(c.Container.Started),
			CPU: s.cpu(c.Container.ID, c.Usage), Memory: memory(c.Usage), IO: pressureOfIO(c.Usage), Swap: swap(c.Usage),
			Rootfs: space(c.Rootfs), Logs: space(c.Logs),
		})
	}
	for _, v := range p.Volumes {
		vs := statsapi.VolumeStats{Name: v.Name, FsStats: *space(&v.Space)}
		if v.Claim != "" {
			vs.PVCRef = &statsapi.PVCReference{Name: v.Claim, Namespace: p.Pod.Namespace}
		}
		st.VolumeStats = append(st.VolumeStats, vs)
	}
	return st
}

func (s *Server) cpu(name string, u *cgroup.Usage) *statsapi.CPUStats {
	if u == nil {
		return nil
	}
	st := &statsapi.CPUStats{Time: metav1.NewTime(u.At), UsageCoreNanoSeconds: ptr(uint64(u.CPU)), UsageNanoCores: s.usage.rate(name, u)}
	if u.Pressure != nil {
		st.PSI = psi(u.Pressure.CPU)
	}
	return st
}

func memory(u *cgroup.Usage) *statsapi.MemoryStats {
	if u == nil {
		return nil
	}
	st := &statsapi.MemoryStats{
		Time: metav1.NewTime(u.At), UsageBytes: ptr(u.Memory), WorkingSetBytes: ptr(u.WorkingSet), RSSBytes: ptr(u.RSS),
		PageFaults: ptr(u.PageFaults), MajorPageFaults: ptr(u.MajorPageFaults),
	}
	if u.MemoryLimit > 0 {
		st.AvailableBytes = ptr(u.MemoryLimit - min(u.MemoryLimit, u.WorkingSet))
	}
	if u.Pressure != nil {
		st.PSI = psi(u.Pressure.Memory)
	}
	return st
}

// pressureOfIO is nil without PSI: there is nothing else in IOStats.
func pressureOfIO(u *cgroup.Usage) *statsapi.IOStats {
	if u == nil || u.Pressure == nil {
		return nil
	}
	return &statsapi.IOStats{Time: metav1.NewTime(u.At), PSI: psi(u.Pressure.IO)}
}

func swap(u *cgroup.Usage) *statsapi.SwapStats {
	if u == nil {
		return nil
	}
	st := &statsapi.SwapStats{Time: metav1.NewTime(u.At), SwapUsageBytes: ptr(u.Swap)}
	if u.SwapLimit != nil {
		st.SwapAvailableBytes = ptr(*u.SwapLimit - min(*u.SwapLimit, u.Swap))
	}
	return st
}

// network shows the interfaces; the first one, or eth0, stands for them all in old clients.
func network(at time.Time, interfaces []stats.Interface) *statsapi.NetworkStats {
	if len(interfaces) == 0 {
		return nil
	}
	st := &statsapi.NetworkStats{Time: metav1.NewTime(at)}
	for _, i := range interfaces {
		one := statsapi.InterfaceStats{
			Name: i.Name, RxBytes: ptr(i.RxBytes), RxErrors: ptr(i.RxErrors), TxBytes: ptr(i.TxBytes), TxErrors: ptr(i.TxErrors),
		}
		st.Interfaces = append(st.Interfaces, one)
		if i.Name == "eth0" {
			st.InterfaceStats = one
		}
	}
	return st
}

func space(s *stats.Space) *statsapi.FsStats {
	if s == nil {
		return nil
	}
	return &statsapi.FsStats{
		Time: metav1.NewTime(s.At), AvailableBytes: ptr(s.Available), CapacityBytes: ptr(s.Capacity), UsedBytes: ptr(s.Used),
		InodesFree: ptr(s.InodesFree), Inodes: ptr(s.InodesAll), InodesUsed: ptr(s.InodesUsed),
	}
}

func psi(s cgroup.Stall) *statsapi.PSIStats {
	data := func(t cgroup.StallTime) statsapi.PSIData {
		return statsapi.PSIData{Total: uint64(t.Total), Avg10: t.Avg10, Avg60: t.Avg60, Avg300: t.Avg300}
	}
	return &statsapi.PSIStats{Full: data(s.Full), Some: data(s.Some)}
}

func ptr[T any](v T) *T { return &v }
