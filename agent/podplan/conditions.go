package podplan

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// setConditions fills in the conditions that belong to the node, in a fixed
// order behind those that do not.
func (m *maker) setConditions(s *corev1.PodStatus) {
	var all []corev1.PodCondition
	for _, c := range m.obj.Status.Conditions {
		if !ours(c.Type) && (c.Type != corev1.DisruptionTarget || !m.preempted()) {
			all = append(all, c)
		}
	}
	s.Conditions = append(all, m.resizeConditions(s)...)
	if c, is := m.disruption(); is {
		m.keepTime(&c)
		s.Conditions = append(slices.DeleteFunc(s.Conditions, func(old corev1.PodCondition) bool { return old.Type == c.Type }), c)
	}
	containersReady := m.containersReady(s)
	for _, c := range []corev1.PodCondition{
		m.readyToStart(),
		m.initializedCondition(s),
		m.ready(s, containersReady),
		containersReady,
		{Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
	} {
		m.keepTime(&c)
		s.Conditions = append(s.Conditions, c)
	}
	if mayRestartAll(m.ctrs) {
		c := m.allRestarting(s)
		m.keepTime(&c)
		s.Conditions = append(s.Conditions, c)
	}
}

func ours(t corev1.PodConditionType) bool {
	switch t {
	case corev1.PodScheduled, corev1.PodReady, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReadyToStartContainers,
		corev1.PodResizePending, corev1.PodResizeInProgress, corev1.AllContainersRestarting:
		return true
	}
	return false
}

// preempted: the pod makes room for a critical one.
func (m *maker) preempted() bool { return m.allocation != nil && m.allocation.Preempted }

// keepTime keeps the transition time of a condition whose status is as it was.
func (m *maker) keepTime(c *corev1.PodCondition) {
	c.ObservedGeneration = m.obj.Generation
	c.LastTransitionTime = *stamp(m.now)
	for i := range m.obj.Status.Conditions {
		old := &m.obj.Status.Conditions[i]
		if old.Type != c.Type {
			continue
		}
		c.LastProbeTime = old.LastProbeTime
		if old.Status == c.Status && !old.LastTransitionTime.IsZero() {
			c.LastTransitionTime = metav1.NewTime(old.LastTransitionTime.Time)
		}
	}
}

func condition(t corev1.PodConditionType, ok bool, reason, message string) corev1.PodCondition {
	c := corev1.PodCondition{Type: t, Status: corev1.ConditionFalse, Reason: reason, Message: message}
	if ok {
		c.Status = corev1.ConditionTrue
	}
	return c
}

// readyToStart: sandbox, network and volumes are there.
func (m *maker) readyToStart() corev1.PodCondition {
	// Where containers were made, volumes were there: nobody needs to have looked again yet.
	volumes := m.volumesReady() || len(m.rt.Containers) > 0
	return condition(corev1.PodReadyToStartContainers, m.current() != nil && volumes, "", "")
}

func (m *maker) initializedCondition(s *corev1.PodStatus) corev1.PodCondition {
	var missing []string
	i := -1
	for _, c := range m.ctrs {
		if c.kind != initial && c.kind != sidecar {
			continue
		}
		i++
		cs := &s.InitContainerStatuses[i]
		if (c.kind == initial && !cs.Ready) || (c.kind == sidecar && (cs.Started == nil || !*cs.Started)) {
			missing = append(missing, c.Name)
		}
	}
	switch {
	case s.Phase == corev1.PodSucceeded:
		return condition(corev1.PodInitialized, true, "PodCompleted", "")
	case len(missing) == 0 || m.initialized(s):
		return condition(corev1.PodInitialized, true, "", "")
	}
	return condition(corev1.PodInitialized, false, "ContainersNotInitialized",
		fmt.Sprintf("containers with incomplete status: [%s]", strings.Join(missing, " ")))
}

func (m *maker) containersReady(s *corev1.PodStatus) corev1.PodCondition {
	switch s.Phase {
	case corev1.PodSucceeded:
		return condition(corev1.ContainersReady, false, "PodCompleted", "")
	case corev1.PodFailed:
		return condition(corev1.ContainersReady, false, "PodFailed", "")
	}
	var unready []string
	inits, mains := 0, 0
	for _, c := range m.ctrs {
		switch c.kind {
		case initial, sidecar:
			if c.kind == sidecar && !s.InitContainerStatuses[inits].Ready {
				unready = append(unready, c.Name)
			}
			inits++
		case ordinary:
			if !s.ContainerStatuses[mains].Ready {
				unready = append(unready, c.Name)
			}
			mains++
		}
	}
	if len(unready) > 0 {
		return condition(corev1.ContainersReady, false, "ContainersNotReady",
			fmt.Sprintf("containers with unready status: [%s]", strings.Join(unready, " ")))
	}
	return condition(corev1.ContainersReady, true, "", "")
}

// ready: all containers are, and so say all readiness gates.
func (m *maker) ready(s *corev1.PodStatus, containers corev1.PodCondition) corev1.PodCondition {
	if containers.Status != corev1.ConditionTrue {
		containers.Type = corev1.PodReady
		return containers
	}
	var closed []string
	for _, gate := range m.obj.Spec.ReadinessGates {
		found := false
		for _, c := range s.Conditions {
			if c.Type != gate.ConditionType {
				continue
			}
			found = true
			if c.Status != corev1.ConditionTrue {
				closed = append(closed, fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %v", gate.ConditionType, c.Status))
			}
		}
		if !found {
			closed = append(closed, fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", gate.ConditionType))
		}
	}
	if len(closed) > 0 {
		return condition(corev1.PodReady, false, "ReadinessGatesNotReady", strings.Join(closed, ", "))
	}
	return condition(corev1.PodReady, true, "", "")
}
