package volumeplan

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

const (
	setGID = 0o2000
	sticky = 0o1000
)

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
		// The kernel's own mode of a tmpfs, which the kubelet leaves as it is.
		out.Kind, out.Mode = Memory, out.Mode|sticky
		out.Size = f.memorySize(src.SizeLimit)
	default:
		size, problem := pageSize(f.Pod, src.Medium)
		out.Kind, out.PageSize, out.Problem.Text = HugePages, size, problem
	}
}

// pageSize is the size of huge pages that a medium means: HugePages-2Mi says it, HugePages is the one size that
// the pod asks for. What the pod does not ask for it could never use: its cgroup allows none.
func pageSize(pod *corev1.Pod, medium corev1.StorageMedium) (size int64, problem string) {
	text, sized := strings.CutPrefix(string(medium), string(corev1.StorageMediumHugePagesPrefix))
	var named resource.Quantity
	var err error
	if sized {
		named, err = resource.ParseQuantity(text)
	}
	if err != nil || !sized && medium != corev1.StorageMediumHugePages {
		return 0, fmt.Sprintf("emptyDir medium %q is not known: use \"\", Memory, HugePages or HugePages-<size>", medium)
	}
	asked := map[int64]bool{}
	note := func(requests corev1.ResourceList) {
		for name := range requests {
			if text, ok := strings.CutPrefix(string(name), corev1.ResourceHugePagesPrefix); ok {
				if q, err := resource.ParseQuantity(text); err == nil { // the API server lets no other in
					asked[q.Value()] = true
				}
			}
		}
	}
	if pod.Spec.Resources != nil {
		note(pod.Spec.Resources.Requests)
	}
	eachContainer(pod, func(c *corev1.Container) { note(c.Resources.Requests) })
	switch {
	case sized && !asked[named.Value()] || len(asked) == 0:
		return 0, fmt.Sprintf("medium %s: hugePages storage requested, but there is no resource request for huge pages", medium)
	case !sized && len(asked) > 1:
		return 0, fmt.Sprintf("medium: %s can't be used if container requests multiple huge page sizes", medium)
	}
	if !sized {
		return slices.Collect(maps.Keys(asked))[0], ""
	}
	return named.Value(), ""
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
