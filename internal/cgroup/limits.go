package cgroup

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/model"
	"nodelet/internal/podref"
)

// Limits of the kernel for CPU shares of cgroup v1, and what the API's units are in them.
const (
	minShares     = 2
	maxShares     = 262144
	sharesPerCPU  = 1024
	milliPerCPU   = 1000
	quotaPeriod   = 100_000 // microseconds, the API's 100 ms
	minimumQuota  = 1_000   // microseconds, the least the kernel takes
	maximumWeight = 10_000
)

// QoS is the quality-of-service class of a pod, which is its place in the tree.
type QoS uint8

// The classes. Guaranteed pods live at the root of the tree, the others in a cgroup of their class.
const (
	Guaranteed QoS = iota
	Burstable
	BestEffort
)

// String is the class as Kubernetes writes it.
func (q QoS) String() string { return [...]string{"Guaranteed", "Burstable", "BestEffort"}[q] }

// dir is the cgroup of the class below the root, empty for Guaranteed.
func (q QoS) dir() string { return [...]string{"", "burstable", "besteffort"}[q] }

// Limits are the resources of one cgroup. Zero means "not limited by this cgroup".
type Limits struct {
	// CPUShares as in cgroup v1; turned into a weight on v2.
	CPUShares uint64
	// CPUQuota is microseconds of CPU per CPUPeriod.
	CPUQuota, CPUPeriod int64
	// Memory in bytes.
	Memory int64
	// PIDs is the number of tasks.
	PIDs int64
	// HugePages maps a page size as the kernel writes it (2MB) to bytes.
	HugePages map[string]int64
}

// Pod is what the tree needs to know of one pod.
type Pod struct {
	UID    model.UID
	QoS    QoS
	Limits Limits
}

// String is one line: pod, class, limits.
func (p Pod) String() string {
	l := p.Limits
	return fmt.Sprintf("pod%s %s shares=%d quota=%d/%d memory=%d pids=%d", p.UID, p.QoS, l.CPUShares, l.CPUQuota, l.CPUPeriod, l.Memory, l.PIDs)
}

// ForPod works out the cgroup of a pod: the sum of its containers' requests and limits, or its
// pod-level resources where given. pids limits the tasks of every pod; 0 means no limit.
func ForPod(pod *corev1.Pod, pids int64) Pod {
	requests, limits := totals(pod)
	p := Pod{UID: model.UID(pod.UID), QoS: qos(pod), Limits: Limits{
		PIDs: pids, CPUShares: shares(requests.Cpu().MilliValue()), HugePages: hugePages(limits.list),
	}}
	if p.QoS == BestEffort {
		p.Limits.CPUShares = minShares
		return p
	}
	if limits.allCPU {
		p.Limits.CPUQuota, p.Limits.CPUPeriod = quota(limits.list.Cpu().MilliValue()), quotaPeriod
	}
	if limits.allMemory {
		p.Limits.Memory = limits.list.Memory().Value()
	}
	return p
}

// ForNode turns what all pods together may use into the limits of the root of their tree. CPU is
// shared out by weight, never capped: what the system does not need now, pods may have.
func ForNode(allocatable corev1.ResourceList) Limits {
	l := Limits{
		CPUShares: shares(allocatable.Cpu().MilliValue()),
		Memory:    allocatable.Memory().Value(),
		HugePages: hugePages(allocatable),
	}
	if pids, ok := allocatable["pid"]; ok { // only where some are reserved
		l.PIDs = pids.Value()
	}
	return l
}

// limitTotals is the sum of limits, and whether every container has one: only then the pod as a
// whole has.
type limitTotals struct {
	list              corev1.ResourceList
	allCPU, allMemory bool
}

// totals adds up requests and limits as the scheduler does.
func totals(pod *corev1.Pod) (corev1.ResourceList, limitTotals) {
	spec := &pod.Spec
	lim := limitTotals{allCPU: true, allMemory: true}
	note := func(c *corev1.Container) {
		lim.allCPU = lim.allCPU && !c.Resources.Limits.Cpu().IsZero()
		lim.allMemory = lim.allMemory && !c.Resources.Limits.Memory().IsZero()
	}
	for i := range spec.Containers {
		note(&spec.Containers[i])
	}
	for i := range spec.InitContainers {
		note(&spec.InitContainers[i])
	}
	lim.list = podref.Limits(pod)
	if r := spec.Resources; r != nil {
		lim.allCPU = lim.allCPU || !r.Limits.Cpu().IsZero()
		lim.allMemory = lim.allMemory || !r.Limits.Memory().IsZero()
	}
	return podref.Requests(pod), lim
}

// Class gives the class of a pod.
func Class(pod *corev1.Pod) QoS { return qos(pod) }

// qos gives the class: as the API server wrote it in status, else by the rules of the API.
func qos(pod *corev1.Pod) QoS {
	switch podref.QOS(pod) {
	case corev1.PodQOSGuaranteed:
		return Guaranteed
	case corev1.PodQOSBestEffort:
		return BestEffort
	}
	return Burstable
}

// shares turns a CPU request into shares of cgroup v1.
func shares(milli int64) uint64 {
	return uint64(min(max(milli*sharesPerCPU/milliPerCPU, minShares), maxShares))
}

// quota turns a CPU limit into microseconds per quotaPeriod.
func quota(milli int64) int64 {
	if milli == 0 {
		return 0
	}
	return max(milli*quotaPeriod/milliPerCPU, minimumQuota)
}

// Over changes the period that a CPU quota is for, leaving what share of a CPU it is; 0 for the API's 100 ms.
// With none there is no quota.
func (l *Limits) Over(period time.Duration, none bool) {
	switch {
	case none:
		l.CPUQuota, l.CPUPeriod = 0, 0
	case period > 0 && l.CPUQuota > 0 && l.CPUPeriod > 0:
		l.CPUQuota = max(l.CPUQuota*period.Microseconds()/l.CPUPeriod, minimumQuota)
		l.CPUPeriod = period.Microseconds()
	}
}

// weight turns shares of v1 into a weight of v2, by the kubelet's formula.
func weight(shares uint64) uint64 {
	shares = min(max(shares, minShares), maxShares)
	return 1 + (shares-minShares)*(maximumWeight-1)/(maxShares-minShares)
}

// hugePages maps the kernel's names of page sizes to bytes.
func hugePages(limits corev1.ResourceList) map[string]int64 {
	var pages map[string]int64
	for name, q := range limits {
		size, ok := strings.CutPrefix(string(name), corev1.ResourceHugePagesPrefix)
		if !ok {
			continue
		}
		if pages == nil {
			pages = map[string]int64{}
		}
		pages[pageSize(size)] = q.Value()
	}
	return pages
}

// pageSize writes "2Mi" as the kernel does, "2MB".
func pageSize(api string) string { return strings.TrimSuffix(api, "i") + "B" }
