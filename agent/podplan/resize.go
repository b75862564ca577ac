package podplan

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"nodelet/internal/model"
	"nodelet/internal/podref"
)

// amounts are request and limit of a container as they are written on it.
func amounts(pod *corev1.Pod, c ctr, name corev1.ResourceName) string {
	request, limit := c.Resources.Requests[name], limitOf(pod, c, name)
	if name == corev1.ResourceCPU {
		return fmt.Sprintf("%d/%d", request.MilliValue(), limit.MilliValue())
	}
	return fmt.Sprintf("%d/%d", request.Value(), limit.Value())
}

// restartsToResize: the container was made with other resources than it was
// granted since, of a kind that its resizePolicy changes by a restart only.
func (m *maker) restartsToResize(c ctr, last *model.Container) bool {
	if c.kind == initial || c.kind == ephemeral {
		return false
	}
	for _, p := range c.ResizePolicy {
		key := map[corev1.ResourceName]string{corev1.ResourceCPU: AnnotationCPU, corev1.ResourceMemory: AnnotationMemory}[p.ResourceName]
		made := last.Annotations[key]
		if p.RestartPolicy == corev1.RestartContainer && made != "" && made != amounts(m.obj, c, p.ResourceName) {
			return true
		}
	}
	return false
}

// stoppedToResize: the container has ended because this process stopped it for
// new resources; then it starts again whatever its exit code.
func (m *maker) stoppedToResize(c ctr, last *model.Container) bool {
	return !m.Notes.Containers[last.ID].Stopping.IsZero() && m.restartsToResize(c, last)
}

// replaced: the container gives way to one made differently, which is no crash.
func (m *maker) replaced(c ctr, last *model.Container) bool {
	return changed(c, last) || m.restartsToResize(c, last)
}

// limits are the limits that a container has: as the runtime says, else as it was last given.
func (m *maker) limits(c ctr, last *model.Container) model.Resources {
	switch set := m.Notes.Containers[last.ID].Resized; {
	case last.Resources != nil:
		return *last.Resources
	case set != model.Resources{}:
		return set
	}
	made := func(key string, name corev1.ResourceName) bool {
		text, ok := last.Annotations[key]
		return !ok || text == amounts(m.obj, c, name)
	}
	if made(AnnotationCPU, corev1.ResourceCPU) && made(AnnotationMemory, corev1.ResourceMemory) {
		return m.wanted(c)
	}
	return model.Resources{} // whatever they are, they are others
}

// wanted are the limits that a container was granted.
func (m *maker) wanted(c ctr) model.Resources {
	r := m.containerResources(c)
	return model.Resources{CPUShares: r.CpuShares, CPUQuota: r.CpuQuota, CPUPeriod: r.CpuPeriod, MemoryLimit: r.MemoryLimitInBytes}
}

// differs: the container has other limits than it was granted. A limit that was
// taken away altogether cannot be lifted in a running container.
func differs(have, want model.Resources) bool {
	return have.CPUShares != want.CPUShares ||
		(want.CPUQuota > 0 && quotaDiffers(have, want)) ||
		(want.MemoryLimit > 0 && have.MemoryLimit != want.MemoryLimit)
}

// quotaDiffers: a container keeps the period that it was started with, so a node whose period was changed
// since compares shares of a CPU.
func quotaDiffers(have, want model.Resources) bool {
	if have.CPUPeriod == want.CPUPeriod || have.CPUPeriod <= 0 || have.CPUQuota <= 0 {
		return have.CPUQuota != want.CPUQuota || have.CPUPeriod != want.CPUPeriod
	}
	return have.CPUQuota*1000/have.CPUPeriod != want.CPUQuota*1000/want.CPUPeriod
}

// resizing: a running container that still has to get the resources it was granted.
func (m *maker) resizing(c ctr) (last *model.Container, restart, is bool) {
	last = m.rt.Latest(c.Name)
	if c.kind == ephemeral || last == nil || last.State != model.ContainerRunning {
		return last, false, false
	}
	restart = m.restartsToResize(c, last)
	return last, restart, restart || differs(m.limits(c, last), m.wanted(c))
}

// CgroupOf stands for the limits of a pod's cgroup: equal for equal limits.
func CgroupOf(pod *corev1.Pod) string {
	requests, limits := podref.Requests(pod), podref.Limits(pod)
	return fmt.Sprintf("cpu %s/%s memory %s/%s", requests.Cpu(), limits.Cpu(), requests.Memory(), limits.Memory())
}

// keeping marks a pod's cgroup that has grown to its new limits and shrunk in nothing yet.
const keeping = "at least "

// resize plans the change of limits of what runs in the sandbox.
func (m *maker) resize(sb *model.Sandbox) {
	memory := podref.Limits(m.obj)[corev1.ResourceMemory]
	a := Resize{
		Pod: m.obj, Cgroup: CgroupOf(m.obj), MemoryLimit: memory.Value(), Generation: m.allocation.Generation,
		Sandbox: sb.ID, Resources: m.Settings.podResources(m.obj), Overhead: m.Settings.overhead(m.obj),
	}
	for _, c := range m.ctrs {
		last, restart, is := m.resizing(c)
		if !is || last.SandboxID != sb.ID {
			continue
		}
		if a.Keep = a.Keep || restart; restart {
			continue
		}
		r := m.containerResources(c)
		have := m.limits(c, last).MemoryLimit
		a.Containers = append(a.Containers, ResizeContainer{
			ID: last.ID, Name: c.Name, Resources: r,
			Less: r.MemoryLimitInBytes > 0 && (have == 0 || r.MemoryLimitInBytes < have),
		})
	}
	if a.Keep {
		a.Cgroup = keeping + a.Cgroup
	}
	if len(a.Containers) == 0 && m.Notes.Cgroup == a.Cgroup {
		return
	}
	if f := m.Notes.Resize; f.Count > 0 && f.Generation == m.allocation.Generation && m.now.Before(f.due()) {
		m.wake(f.due())
		return
	}
	m.add(a)
}

// resizeConditions tell of resources that are asked for and not granted, and of those granted and not in place.
func (m *maker) resizeConditions(s *corev1.PodStatus) (all []corev1.PodCondition) {
	if m.allocation == nil || terminal(s.Phase) {
		return nil
	}
	if p := m.allocation.Pending; p != nil {
		c := condition(corev1.PodResizePending, true, p.Reason, p.Message)
		m.keepTime(&c)
		c.ObservedGeneration = p.Generation
		all = append(all, c)
	}
	under := m.Notes.Cgroup != "" && m.Notes.Cgroup != CgroupOf(m.obj)
	for _, c := range m.ctrs {
		_, _, is := m.resizing(c)
		under = under || is
	}
	if !under {
		return all
	}
	c := condition(corev1.PodResizeInProgress, true, "", "")
	if f := m.Notes.Resize; f.Count > 0 && f.Generation == m.allocation.Generation {
		c.Reason, c.Message = corev1.PodReasonError, f.Message
	}
	m.keepTime(&c)
	c.ObservedGeneration = m.allocation.Generation
	return append(all, c)
}

// actual are the resources a container has: those granted, and while they are
// not in place those that the runtime tells of.
func (m *maker) actual(c ctr, last *model.Container, old *corev1.ContainerStatus) *corev1.ResourceRequirements {
	r := c.Resources.DeepCopy()
	_, _, is := m.resizing(c)
	if !is {
		return r
	}
	have := m.limits(c, last)
	if r.Limits != nil && have.CPUQuota > 0 && have.CPUPeriod > 0 {
		r.Limits[corev1.ResourceCPU] = *resource.NewMilliQuantity(have.CPUQuota*1000/have.CPUPeriod, resource.DecimalSI)
	}
	if r.Limits != nil && have.MemoryLimit > 0 {
		r.Limits[corev1.ResourceMemory] = *resource.NewQuantity(have.MemoryLimit, resource.BinarySI)
	}
	if r.Requests != nil && have.CPUShares > minShares {
		r.Requests[corev1.ResourceCPU] = *resource.NewMilliQuantity((have.CPUShares*1000+1023)/1024, resource.DecimalSI)
	}
	if old != nil && old.ContainerID == m.containerID(last) && old.Resources != nil && r.Requests != nil {
		// The kernel knows of no request of memory.
		if q, ok := old.Resources.Requests[corev1.ResourceMemory]; ok {
			r.Requests[corev1.ResourceMemory] = q
		}
	}
	return r
}

// setPodResources fills in the resources of the pod as a whole.
func (m *maker) setPodResources(s *corev1.PodStatus) {
	s.AllocatedResources, s.Resources = podref.Requests(m.obj), nil
	if limits := podref.Limits(m.obj); len(s.AllocatedResources)+len(limits) > 0 {
		s.Resources = &corev1.ResourceRequirements{Requests: s.AllocatedResources, Limits: limits}
	}
	if old := m.obj.Status.Resources; old != nil && m.resizingPod(s) {
		s.Resources = old.DeepCopy() // as long as the cgroup is not what it is to be
	}
}

func (m *maker) resizingPod(s *corev1.PodStatus) bool {
	for _, c := range s.Conditions {
		if c.Type == corev1.PodResizeInProgress {
			return true
		}
	}
	return false
}
