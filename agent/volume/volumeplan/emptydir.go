package volumeplan

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

const setGID = 0o2000

// emptyDir plans a scratch directory: open to every user as upstream's, and of
// the pod's group when it has one.
func (f Facts) emptyDir(out *Volume, src *corev1.EmptyDirVolumeSource) {
	out.Mode = 0o777
	if gid, ok := fsGroup(f.Pod); ok {
		out.GID = gid
		out.Mode |= setGID
	}
	switch src.Medium {
	case corev1.StorageMediumDefault:
		out.Kind = Directory
	case corev1.StorageMediumMemory:
		out.Kind = Memory
		out.Size = f.memorySize(src.SizeLimit)
	default:
		out.Problem.Text = fmt.Sprintf("emptyDir medium %q is not supported by this node; use \"\" or Memory", src.Medium)
	}
}

// memorySize is the smallest of what the node can give, what the pod may use
// and what the volume may hold: a tmpfs is charged to the pod's memory, so
// more could never be filled.
func (f Facts) memorySize(limit *resource.Quantity) int64 {
	size := f.Allocatable.Memory().Value()
	for _, n := range []int64{podMemoryLimit(f.Pod), quantity(limit)} {
		if n > 0 && (size <= 0 || n < size) {
			size = n
		}
	}
	return max(size, 0)
}

func quantity(q *resource.Quantity) int64 {
	if q == nil {
		return 0
	}
	return q.Value()
}

// podMemoryLimit is the memory the pod's cgroup allows, 0 for no limit: the
// pod's own limit, or what its containers may use at the same time when each
// of them is limited.
func podMemoryLimit(pod *corev1.Pod) int64 {
	overhead := pod.Spec.Overhead.Memory().Value()
	if r := pod.Spec.Resources; r != nil && !r.Limits.Memory().IsZero() {
		return r.Limits.Memory().Value() + overhead
	}
	var running, starting int64
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		n := c.Resources.Limits.Memory().Value()
		if n == 0 {
			return 0
		}
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			running += n
			n = 0
		}
		starting = max(starting, running+n)
	}
	for i := range pod.Spec.Containers {
		n := pod.Spec.Containers[i].Resources.Limits.Memory().Value()
		if n == 0 {
			return 0
		}
		running += n
	}
	return max(running, starting) + overhead
}
