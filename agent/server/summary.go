package server

import (
	"cmp"
	"net/http"
	"slices"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"nodelet/internal/cgroup"
)

// summary gives what the node, its pods and their containers use, as the Summary API has it.
func (s *Server) summary(w http.ResponseWriter, r *http.Request, _ request) {
	all := s.measure(r.Context())
	s.usage.begin()
	defer s.usage.end()
	sum := &statsapi.Summary{Node: statsapi.NodeStats{NodeName: s.cfg.NodeName, StartTime: metav1.NewTime(bootTime())}, Pods: []statsapi.PodStats{}}
	sum.Node.CPU, sum.Node.Memory = s.cpu("/", all.node), memory(all.node)
	if all.node != nil && sum.Node.Memory != nil {
		if total := totalMemory(); total > all.node.WorkingSet {
			sum.Node.Memory.AvailableBytes = ptr(total - all.node.WorkingSet)
		}
	}
	for _, p := range all.pods {
		sum.Pods = append(sum.Pods, s.podStats(p))
	}
	slices.SortFunc(sum.Pods, func(a, b statsapi.PodStats) int {
		return cmp.Or(cmp.Compare(a.PodRef.Namespace, b.PodRef.Namespace), cmp.Compare(a.PodRef.Name, b.PodRef.Name))
	})
	s.writeJSON(w, sum)
}

func (s *Server) podStats(p podUsage) statsapi.PodStats {
	st := statsapi.PodStats{
		PodRef:    statsapi.PodReference{Name: p.pod.Name, Namespace: p.pod.Namespace, UID: string(p.pod.UID)},
		StartTime: metav1.NewTime(p.started),
		CPU:       s.cpu(string(p.pod.UID), p.usage), Memory: memory(p.usage),
	}
	if p.usage != nil && p.usage.PIDs > 0 {
		st.ProcessStats = &statsapi.ProcessStats{ProcessCount: ptr(p.usage.PIDs)}
	}
	for _, c := range p.containers {
		st.Containers = append(st.Containers, statsapi.ContainerStats{
			Name: c.container.Name, StartTime: metav1.NewTime(c.container.Started),
			CPU: s.cpu(c.container.ID, c.usage), Memory: memory(c.usage),
		})
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

func psi(s cgroup.Stall) *statsapi.PSIStats {
	data := func(t cgroup.StallTime) statsapi.PSIData {
		return statsapi.PSIData{Total: uint64(t.Total), Avg10: t.Avg10, Avg60: t.Avg60, Avg300: t.Avg300}
	}
	return &statsapi.PSIStats{Full: data(s.Full), Some: data(s.Some)}
}

func ptr[T any](v T) *T { return &v }

// bootTime is when the machine started.
func bootTime() time.Time {
	var info syscall.Sysinfo_t
	if syscall.Sysinfo(&info) != nil {
		return time.Time{}
	}
	return time.Now().Add(-time.Duration(info.Uptime) * time.Second).Truncate(time.Second)
}

func totalMemory() uint64 {
	var info syscall.Sysinfo_t
	if syscall.Sysinfo(&info) != nil {
		return 0
	}
	return info.Totalram * uint64(info.Unit)
}
