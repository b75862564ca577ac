package podplan

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/model"
)

// rule is the first restart rule of a container that an exit code matches; nil when there is none.
func rule(c ctr, code int32) *corev1.ContainerRestartRule {
	if c.RestartPolicy == nil {
		return nil // rules need a policy of the container's own
	}
	for i := range c.RestartPolicyRules {
		if r := &c.RestartPolicyRules[i]; matches(r.ExitCodes, code) {
			return r
		}
	}
	return nil
}

// restartsAll: the container ended in a way that starts the whole pod over (KEP-5532).
func restartsAll(c ctr, last *model.Container) bool {
	if c.kind == ephemeral || last == nil || last.State != model.ContainerExited {
		return false
	}
	r := rule(c, last.ExitCode)
	return r != nil && r.Action == corev1.ContainerRestartRuleActionRestartAllContainers
}

// mayRestartAll: a container of the pod has such a rule.
func mayRestartAll(ctrs []ctr) bool {
	return slices.ContainsFunc(ctrs, func(c ctr) bool {
		return slices.ContainsFunc(c.RestartPolicyRules, func(r corev1.ContainerRestartRule) bool {
			return r.Action == corev1.ContainerRestartRuleActionRestartAllContainers
		})
	})
}

// sources are the containers whose end starts the pod over, by id.
func (m *maker) sources() map[string]*model.Container {
	all := map[string]*model.Container{}
	for _, c := range m.ctrs {
		if last := m.rt.Latest(c.Name); restartsAll(c, last) {
			all[last.ID] = last
		}
	}
	return all
}

// startingOver: the API has been told that all containers start anew.
func (m *maker) startingOver() bool {
	return slices.ContainsFunc(m.obj.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.AllContainersRestarting && c.Status == corev1.ConditionTrue
	})
}

// startOver plans the end of all containers when one of them asks for it:
// stopped, the sidecars last, then removed. The one that asks is removed last,
// and only when the API knows: it is the memory of what is being done. True
// while nothing may start.
func (m *maker) startOver() bool {
	sources := m.sources()
	if len(sources) == 0 {
		return false
	}
	// A pod that starts over again and again does so ever more slowly.
	due := time.Time{}
	for _, c := range sources {
		if c.Finished.Sub(c.Started) < healthyRun {
			due = later(due, c.Finished.Add(doubled(backOffFirst, m.Settings.maxBackOff(), int(c.Attempt))))
		}
	}
	if m.now.Before(due) {
		m.wake(due)
		return false
	}
	switch {
	case m.endAll():
	case !m.startingOver():
		// The status that is about to be written says so.
	default:
		m.removeAll(sources)
	}
	return true
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// endAll stops what runs, sidecars after the others and from the last to the first.
func (m *maker) endAll() (any bool) {
	for i := len(m.ctrs) - 1; i >= 0; i-- {
		c := m.ctrs[i]
		last := m.rt.Latest(c.Name)
		if c.kind == ephemeral || last == nil || !alive(last) {
			continue
		}
		if c.kind == sidecar && any {
			return true
		}
		any = true
		m.kill(stopping{ctr: c, last: last, grace: m.grace(), why: Why{"RestartAllContainers",
			fmt.Sprintf("Stopping container %s, all containers of the pod are restarted", c.Name)}})
	}
	return any
}

// removeAll removes all containers, those that asked for it when the others are gone.
func (m *maker) removeAll(sources map[string]*model.Container) {
	others := false
	for _, wanted := range []bool{false, true} {
		for i := range m.rt.Containers {
			c := &m.rt.Containers[i]
			spec, _ := m.find(c.Name)
			if isSource := sources[c.ID] != nil; isSource != wanted || (spec.Container != nil && spec.kind == ephemeral) {
				continue
			}
			others = others || !wanted
			m.add(RemoveContainer{ID: c.ID, Name: c.Name, LogPath: c.LogPath})
		}
		if others {
			return
		}
	}
}

// allRestarting is the condition of a pod that may start over.
func (m *maker) allRestarting(s *corev1.PodStatus) corev1.PodCondition {
	switch {
	case s.Phase == corev1.PodSucceeded:
		return condition(corev1.AllContainersRestarting, false, "PodCompleted", "")
	case s.Phase == corev1.PodFailed:
		return condition(corev1.AllContainersRestarting, false, "PodFailed", "")
	case len(m.sources()) == 0:
		return condition(corev1.AllContainersRestarting, false, "", "")
	}
	return condition(corev1.AllContainersRestarting, true, "RestartAllContainersStarted", "container exited with restart policy rule")
}
