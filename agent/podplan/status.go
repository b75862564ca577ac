package podplan

import (
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/internal/model"
	"nodelet/internal/podref"
)

// status is what is true of the pod, on the ground of what the API says so far.
func (m *maker) status() corev1.PodStatus {
	old := &m.obj.Status
	s := *old.DeepCopy()
	s.ObservedGeneration = max(m.observed(), old.ObservedGeneration)
	s.QOSClass = podref.QOS(m.obj)
	if s.StartTime == nil || s.StartTime.IsZero() {
		s.StartTime = stamp(m.now)
	}
	m.containerStatuses(&s)
	finished := m.stopping && !m.anyAlive() && !m.claimsHeld()
	if finished && m.obj.DeletionTimestamp != nil {
		m.settle(&s)
	}
	m.setPhase(&s, finished)
	m.setAddresses(&s)
	m.setConditions(&s)
	m.setPodResources(&s)
	if m.turnedAway() { // as upstream: kubectl then shows the reason, and not that containers are being created
		s.InitContainerStatuses, s.ContainerStatuses, s.EphemeralContainerStatuses = nil, nil, nil
	}
	return s
}

// observed is the generation that the status stands for: one whose resources
// nobody has decided about yet is not observed, or it would seem to be in place already.
func (m *maker) observed() int64 {
	a, asked := m.allocation, m.obj.Generation
	decided := a == nil || a.Rejected || a.Generation == asked || (a.Pending != nil && a.Pending.Generation == asked)
	if decided || m.stopping {
		return asked
	}
	return m.obj.Status.ObservedGeneration
}

func (m *maker) containerStatuses(s *corev1.PodStatus) {
	s.InitContainerStatuses, s.ContainerStatuses, s.EphemeralContainerStatuses = nil, nil, nil
	for _, c := range m.ctrs {
		cs := m.containerStatus(c)
		switch c.kind {
		case initial, sidecar:
			s.InitContainerStatuses = append(s.InitContainerStatuses, cs)
		case ordinary:
			s.ContainerStatuses = append(s.ContainerStatuses, cs)
		case ephemeral:
			s.EphemeralContainerStatuses = append(s.EphemeralContainerStatuses, cs)
		}
	}
}

// turnedAway: the node did not take the pod, and nothing of it was ever begun.
func (m *maker) turnedAway() bool {
	rejected := m.allocation != nil && m.allocation.Rejected || m.grant != nil && m.grant.Rejected ||
		m.volumes().Refused != "" || m.obj.Status.Reason == model.AttachLimit // when its volumes are cleared
	return rejected && (m.rt == nil || len(m.rt.Containers) == 0)
}

// settle gives every container of a deleted pod an end, also those that never ran or that the runtime lost.
func (m *maker) settle(s *corev1.PodStatus) {
	lost := func(cs *corev1.ContainerStatus) {
		if cs.State.Terminated == nil {
			cs.State = lostState("The container could not be located when the pod was terminated")
			cs.Ready, cs.Started = false, new(bool)
		}
	}
	if !m.initialized(s) {
		// Init containers behind the last that was begun have not failed: they were never due.
		begun := 0
		for i, cs := range s.InitContainerStatuses {
			if cs.State.Waiting == nil || cs.LastTerminationState.Terminated != nil {
				begun = i
			}
		}
		for i := range s.InitContainerStatuses[:begun+1] {
			lost(&s.InitContainerStatuses[i])
		}
		return
	}
	for i := range s.InitContainerStatuses {
		lost(&s.InitContainerStatuses[i])
	}
	for i := range s.ContainerStatuses {
		lost(&s.ContainerStatuses[i])
	}
}

// initialized: the pod has got past its init containers at some time.
func (m *maker) initialized(s *corev1.PodStatus) bool {
	if len(m.obj.Spec.InitContainers) == 0 {
		return true
	}
	return slices.ContainsFunc(s.ContainerStatuses, func(cs corev1.ContainerStatus) bool {
		return cs.State.Waiting == nil || cs.LastTerminationState.Terminated != nil
	})
}

func lostState(message string) corev1.ContainerState {
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		Reason: ReasonUnknown, Message: message, ExitCode: 137,
	}}
}

// setAddresses fills in the addresses of host and pod. A pod keeps its
// addresses in the status when its sandbox is gone: they tell whose traffic it was.
func (m *maker) setAddresses(s *corev1.PodStatus) {
	if len(m.Node.IPs) > 0 {
		s.HostIP, s.HostIPs = m.Node.IPs[0].String(), nil
		for _, ip := range m.Node.IPs {
			s.HostIPs = append(s.HostIPs, corev1.HostIP{IP: ip.String()})
		}
	}
	ips, known := m.podIPs()
	if !known {
		return
	}
	s.PodIP, s.PodIPs = ips[0].String(), nil
	for _, ip := range ips {
		s.PodIPs = append(s.PodIPs, corev1.PodIP{IP: ip.String()})
	}
}

// podIPs gives the addresses of the pod as they are now; known is false when
// there is no sandbox to tell.
func (m *maker) podIPs() (ips []netip.Addr, known bool) {
	if m.obj.Spec.HostNetwork {
		ips = m.Node.IPs
		if len(m.rt.Sandboxes) == 0 && m.obj.Status.PodIP == "" {
			return ips, false
		}
		return ips, len(ips) > 0
	}
	sb := m.current()
	if sb == nil {
		return nil, false
	}
	ips = slices.Clone(sb.IPs)
	if len(m.Node.IPs) > 0 {
		// The family of the node's first address comes first in the pod, too.
		v4 := m.Node.IPs[0].Is4()
		slices.SortStableFunc(ips, func(a, b netip.Addr) int { return rank(a.Is4() == v4) - rank(b.Is4() == v4) })
	}
	return ips, len(ips) > 0
}

func rank(preferred bool) int {
	if preferred {
		return 0
	}
	return 1
}

// stamp is a time as the API stores it: whole seconds.
func stamp(t time.Time) *metav1.Time {
	s := metav1.NewTime(t.Truncate(time.Second))
	return &s
}

// oldStatus is what the API says of a container so far; nil when nothing.
func (m *maker) oldStatus(name string) *corev1.ContainerStatus {
	s := &m.obj.Status
	for _, list := range [][]corev1.ContainerStatus{s.ContainerStatuses, s.InitContainerStatuses, s.EphemeralContainerStatuses} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

func (m *maker) containerID(c *model.Container) string {
	return m.Node.RuntimeName + "://" + c.ID
}
