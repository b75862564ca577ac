package podplan

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/agent/admission"
)

// Swap is what of the machine's swap containers may use (KEP-2400).
type Swap struct {
	// Accounted: the kernel limits the swap of cgroups; V2: by cgroup v2.
	Accounted, V2 bool
	// Limited is swapBehavior LimitedSwap; without it no container gets any.
	Limited bool
	// Bytes is all swap of the machine.
	Bytes int64
}

// Given tells whether containers may have swap. Cgroup v1 cannot bound it by itself, so there nobody gets any.
func (s Swap) Given() bool { return s.Limited && s.Accounted && s.V2 }

// swapMax is the file of cgroup v2 with the bytes of swap that a cgroup may use.
const swapMax = "memory.swap.max"

// limitSwap bounds the swap of a container. Cgroup v1 bounds memory and swap together, and only where
// memory is bounded: there a limit equal to that of memory leaves nothing to swap beyond it.
func (m *maker) limitSwap(c ctr, r *runtimev1.LinuxContainerResources) {
	s := m.Node.Swap
	switch {
	case !s.Accounted:
	case !s.V2:
		r.MemorySwapLimitInBytes = r.MemoryLimitInBytes
	default:
		unify(r, swapMax, strconv.FormatInt(m.swapOf(c), 10))
	}
}

// swapOf is a container's part of the swap in bytes: as much as its request is of the machine's memory.
func (m *maker) swapOf(c ctr) int64 {
	request, memory := c.Resources.Requests[corev1.ResourceMemory], m.Node.MemoryBytes
	if !m.Node.Swap.Given() || !admission.MaySwap(m.obj, c.Container) || memory <= 0 || request.Value() > memory {
		return 0
	}
	return int64(float64(request.Value()) / float64(memory) * float64(m.Node.Swap.Bytes))
}
