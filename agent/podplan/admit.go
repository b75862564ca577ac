package podplan

import (
	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/model"
)

// rejected reports whether the node cannot take the pod at all: a port of the
// host that it asks for belongs to another pod. The scheduler keeps such pods
// apart, but not everybody asks the scheduler. A pod that was taken is never rejected later.
func (m *maker) rejected() bool {
	if m.admitted(m.obj) {
		return false
	}
	ports := hostPorts(m.obj)
	if len(ports) == 0 {
		return false
	}
	for _, other := range m.World.Pods.All() {
		if other.UID == m.obj.UID || terminal(other.Status.Phase) || !m.before(other) {
			continue
		}
		for _, theirs := range hostPorts(other) {
			for _, p := range ports {
				if conflict(p, theirs) {
					const message = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
					m.end = ending{phase: corev1.PodFailed, reason: "NodePorts", message: "Pod was rejected: " + message}
					m.problem("", "NodePorts", message)
					return true
				}
			}
		}
	}
	return false
}

// admitted: the node has taken the pod and said so, or has begun to run it.
func (m *maker) admitted(pod *corev1.Pod) bool {
	if pod.Status.StartTime != nil {
		return true
	}
	rt, ok := m.World.Runtime.Get(model.UID(pod.UID))
	return ok && len(rt.Sandboxes) > 0
}

// before: the other pod is the one that keeps what both want. Among two that
// are new, the older one; the UID decides between twins.
func (m *maker) before(other *corev1.Pod) bool {
	if m.admitted(other) {
		return true
	}
	a, b := other.CreationTimestamp.Time, m.obj.CreationTimestamp.Time
	if !a.Equal(b) {
		return a.Before(b)
	}
	return other.UID < m.obj.UID
}

func hostPorts(pod *corev1.Pod) (all []corev1.ContainerPort) {
	for _, c := range containers(pod) {
		if c.kind != ordinary && c.kind != sidecar {
			continue
		}
		for _, p := range c.Ports {
			if p.HostPort != 0 {
				all = append(all, p)
			}
		}
	}
	return all
}

func conflict(a, b corev1.ContainerPort) bool {
	if a.HostPort != b.HostPort || protocol(a.Protocol) != protocol(b.Protocol) {
		return false
	}
	return a.HostIP == b.HostIP || anyAddress(a.HostIP) || anyAddress(b.HostIP)
}

func anyAddress(ip string) bool { return ip == "" || ip == "0.0.0.0" || ip == "::" }
