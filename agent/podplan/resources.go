package podplan

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/agent/admission"
	"nodelet/internal/podref"
)

const (
	cpuPeriod = 100_000 // µs, the kernel's and Kubernetes' default
	minQuota  = 1_000   // µs, the least the kernel takes
	unlimited = -1      // a quota that is none, as the kernel writes it
	minShares = 2
	maxShares = 262_144
	maxMilli  = 1 << 40 // more CPU than any machine has, and far from overflowing
)

// shares turns millicores into CPU shares; 1024 shares are a core.
func shares(milli int64) int64 {
	return min(max(min(milli, maxMilli)*1024/1000, minShares), maxShares)
}

// period is what CPU limits are enforced over, in µs.
func (s *Settings) period() int64 {
	if s.CPUQuotaPeriod > 0 {
		return s.CPUQuotaPeriod.Microseconds()
	}
	return cpuPeriod
}

// quota turns millicores into µs a period; 0 means no limit.
func (s *Settings) quota(milli int64) int64 {
	if milli <= 0 || s.NoCPUQuota {
		return 0
	}
	return max(min(milli, maxMilli)*s.period()/1000, minQuota)
}

func (m *maker) containerResources(c ctr) *runtimev1.LinuxContainerResources {
	cpu, memory := limitOf(m.obj, c, corev1.ResourceCPU), limitOf(m.obj, c, corev1.ResourceMemory)
	request := cpu
	if q, ok := c.Resources.Requests[corev1.ResourceCPU]; ok {
		request = &q
	}
	r := &runtimev1.LinuxContainerResources{
		CpuShares:          shares(request.MilliValue()),
		CpuPeriod:          m.Settings.period(),
		CpuQuota:           m.Settings.quota(cpu.MilliValue()),
		MemoryLimitInBytes: memory.Value(),
		OomScoreAdj:        m.oomScore(c),
		HugepageLimits:     hugepages(c.Resources.Limits, m.Node.Allocatable),
	}
	if m.grant != nil && m.grant.Containers[c.Name].CPUs != "" {
		r.CpuQuota = unlimited // the CPUs themselves are the limit
	}
	m.limitSwap(c, r)
	if m.Node.OOMGroup {
		unify(r, "memory.oom.group", "1")
	}
	return r
}

// unify sets a file of cgroup v2 that CRI has no field for.
func unify(r *runtimev1.LinuxContainerResources, file, value string) {
	if r.Unified == nil {
		r.Unified = map[string]string{}
	}
	r.Unified[file] = value
}

// limitOf is the limit of a container: a limit of the pod bounds a container that has none of its own.
func limitOf(pod *corev1.Pod, c ctr, name corev1.ResourceName) *resource.Quantity {
	q := c.Resources.Limits[name]
	if r := pod.Spec.Resources; r != nil && q.IsZero() {
		q = r.Limits[name]
	}
	return &q
}

// oomScore makes the kernel take best-effort pods first and guaranteed ones
// last; in between, the more memory of the machine a container asked for, the later.
func (m *maker) oomScore(c ctr) int64 {
	const guaranteed, bestEffort = -997, 1000
	switch class := podref.QOS(m.obj); {
	case admission.Critical(m.obj) && m.obj.Spec.PriorityClassName == "system-node-critical", class == corev1.PodQOSGuaranteed:
		return guaranteed
	case class == corev1.PodQOSBestEffort:
		return bestEffort
	}
	capacity := m.Node.MemoryBytes
	if capacity <= 0 {
		return bestEffort - 1
	}
	spare := sparePerContainer(m.obj)
	score := func(request int64) int64 { return bestEffort - bestEffort*(request+spare)/capacity }
	adj := score(requestOf(c.Container, corev1.ResourceMemory).Value())
	if c.kind == sidecar {
		// A sidecar must not go before all of the containers it serves.
		last := int64(0)
		for i := range m.obj.Spec.Containers {
			last = max(last, score(requestOf(&m.obj.Spec.Containers[i], corev1.ResourceMemory).Value()))
		}
		adj = min(adj, last)
	}
	return min(max(adj, bestEffort+guaranteed), bestEffort-1)
}

// sparePerContainer is each container's part of the memory that the pod as a
// whole asks for beyond what its containers do (KEP-2837).
func sparePerContainer(pod *corev1.Pod) int64 {
	r := pod.Spec.Resources
	if r == nil || r.Requests.Memory().IsZero() {
		return 0
	}
	asked := podref.Total(&pod.Spec, func(c *corev1.Container) corev1.ResourceList { return c.Resources.Requests })
	return max(r.Requests.Memory().Value()-asked.Memory().Value(), 0) / int64(max(len(pod.Spec.Containers)+len(pod.Spec.InitContainers), 1))
}

// hugepages turns hugepages-2Mi into the page size as cgroups write it: 2MB. Of each size that the node has,
// a container without a limit may have none: pages that others asked for would be gone.
func hugepages(limits, node corev1.ResourceList) []*runtimev1.HugepageLimit {
	names := slices.AppendSeq(slices.Collect(maps.Keys(limits)), maps.Keys(node))
	slices.Sort(names)
	var all []*runtimev1.HugepageLimit
	for _, name := range slices.Compact(names) {
		size, ok := strings.CutPrefix(string(name), corev1.ResourceHugePagesPrefix)
		if !ok {
			continue
		}
		bytes, err := resource.ParseQuantity(size)
		if err != nil {
			continue // the API server does not let such a name in
		}
		limit := limits[name]
		all = append(all, &runtimev1.HugepageLimit{PageSize: pageSize(bytes.Value()), Limit: uint64(max(limit.Value(), 0))})
	}
	return all
}

func pageSize(bytes int64) string {
	units := []string{"B", "KB", "MB", "GB", "TB", "PB"}
	i := 0
	for ; bytes >= 1024 && i < len(units)-1; i++ {
		bytes /= 1024
	}
	return resource.NewQuantity(bytes, resource.DecimalSI).String() + units[i]
}

// podResources is what the containers of the pod may use together; zero where one of them has no limit.
func (s *Settings) podResources(pod *corev1.Pod) *runtimev1.LinuxContainerResources {
	var request, cpu, memory int64
	cpuBound, memoryBound := true, true
	for _, c := range containers(pod) {
		if c.kind != ordinary && c.kind != sidecar {
			continue
		}
		request += requestOf(c.Container, corev1.ResourceCPU).MilliValue()
		cpu += c.Resources.Limits.Cpu().MilliValue()
		memory += c.Resources.Limits.Memory().Value()
		cpuBound = cpuBound && !c.Resources.Limits.Cpu().IsZero()
		memoryBound = memoryBound && !c.Resources.Limits.Memory().IsZero()
	}
	out := &runtimev1.LinuxContainerResources{CpuShares: shares(request), CpuPeriod: s.period()}
	if cpuBound {
		out.CpuQuota = s.quota(cpu)
	}
	if memoryBound {
		out.MemoryLimitInBytes = memory
	}
	return out
}

func (s *Settings) overhead(pod *corev1.Pod) *runtimev1.LinuxContainerResources {
	if len(pod.Spec.Overhead) == 0 {
		return nil
	}
	return &runtimev1.LinuxContainerResources{
		CpuShares:          shares(pod.Spec.Overhead.Cpu().MilliValue()),
		CpuPeriod:          s.period(),
		CpuQuota:           s.quota(pod.Spec.Overhead.Cpu().MilliValue()),
		MemoryLimitInBytes: pod.Spec.Overhead.Memory().Value(),
	}
}
