package exclusive

import (
	"errors"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"nodelet/agent/exclusive/alignplan"
	"nodelet/agent/exclusive/cpuplan"
	"nodelet/agent/exclusive/deviceplan"
	"nodelet/internal/model"
)

// errAffinity: the topology policy takes the pod nowhere; upstream's words.
var errAffinity = errors.New("Resources cannot be allocated with Topology locality")

// wants is what the next container asks for, and what it gets from those before it.
type wants struct {
	pod      *corev1.Pod
	c        deviceplan.Container
	lentCPUs cpuplan.Set
	lent     map[string]map[string]bool
}

// alignPod is the place of a pod as a whole; anywhere with the scope container.
func (m *Manager) alignPod(g *model.Grant, pod *corev1.Pod, all []deviceplan.Container) (alignplan.Nodes, error) {
	if !m.cfg.Align.Policy.On() || !m.cfg.Align.Pod {
		return 0, nil
	}
	cpus := deviceplan.Most(all, func(c *corev1.Container) int { return m.wantsCPUs(pod, c) })
	devices := map[string]int{}
	for _, c := range all {
		for resource := range deviceplan.Asks(pod, c.Container) {
			devices[resource] = deviceplan.Most(all, func(c *corev1.Container) int { return deviceplan.Asks(pod, c)[resource] })
		}
	}
	return m.place(g, cpus, devices, wants{})
}

// alignContainer is the place of the next container: that of its pod, or its own.
func (m *Manager) alignContainer(pod alignplan.Nodes, g *model.Grant, w wants) (alignplan.Nodes, error) {
	if !m.cfg.Align.Policy.On() || m.cfg.Align.Pod {
		return pod, nil
	}
	return m.place(g, m.wantsCPUs(w.pod, w.c.Container), deviceplan.Asks(w.pod, w.c.Container), w)
}

// place asks for hints and merges them.
func (m *Manager) place(g *model.Grant, cpus int, devices map[string]int, w wants) (alignplan.Nodes, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	nodes := m.cfg.Align.Nodes
	var lists [][]alignplan.Hint
	if cpus > 0 {
		lists = append(lists, m.cfg.CPUs.Options.Hints(m.cfg.CPUs.Topology, m.freeCPUs(g), w.lentCPUs, cpus))
	}
	for _, resource := range slices.Sorted(maps.Keys(devices)) {
		p := m.plugins[resource]
		if p == nil {
			continue
		}
		q := deviceplan.Request{Resource: resource, Need: devices[resource], Reusable: w.lent[resource]}
		lists = append(lists, m.request(g, q, p).Hints(nodes))
	}
	if len(lists) == 0 {
		return 0, nil
	}
	hint, admitted := alignplan.Merge(m.cfg.Align.Policy, nodes, m.cfg.Align.Near, lists)
	m.deps.Metrics.Aligned(admitted)
	if !admitted {
		return 0, errAffinity
	}
	return hint.Nodes, nil
}
