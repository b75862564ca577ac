package podplan

import (
	corev1 "k8s.io/api/core/v1"
)

// setPhase fills in phase, reason and message. It never leaves a terminal
// phase, and does not enter one while a container runs or
// its claims are not given back: with it the API frees the devices for others.
func (m *maker) setPhase(s *corev1.PodStatus, finished bool) {
	old := m.obj.Status.Phase
	if terminal(old) {
		return // with the reason and message the API has
	}
	phase := m.phase(s, finished)
	switch {
	case finished && m.end.phase != "":
		s.Phase, s.Reason, s.Message = m.end.phase, m.end.reason, m.end.message
		return
	case finished && !terminal(phase):
		phase = corev1.PodFailed // it ends here, and has not succeeded
	}
	if terminal(phase) && (m.anyAlive() || m.claimsHeld()) {
		phase = old
	}
	if old == corev1.PodRunning && phase == corev1.PodPending {
		phase = old
	}
	if phase == "" {
		phase = corev1.PodPending
	}
	if s.Phase != phase {
		s.Phase, s.Reason, s.Message = phase, "", ""
	}
}

// tally counts the containers that decide the phase by what they do.
type tally struct{ running, waiting, stopped, final, succeeded int }

// phase is the phase by the containers alone.
func (m *maker) phase(s *corev1.PodStatus, finished bool) corev1.PodPhase {
	var t tally
	pendingInit, failed := m.countInit(s, &t)
	if failed {
		return corev1.PodFailed
	}
	ordinaries := 0
	for _, c := range m.ctrs {
		if c.kind == ordinary {
			m.count(c, &s.ContainerStatuses[ordinaries], &t)
			ordinaries++
		}
	}
	switch {
	case pendingInit || t.waiting > 0:
		return corev1.PodPending
	case t.running > 0:
		return corev1.PodRunning
	case t.stopped == 0:
		return corev1.PodPending
	case !finished && (t.final < t.stopped || !m.stopping && len(m.sources()) > 0):
		return corev1.PodRunning // some are about to start again, or all
	case t.succeeded == t.stopped:
		return corev1.PodSucceeded
	}
	return corev1.PodFailed
}

// exit is how a container ended last, if it is not running now and has ever run.
func exit(s *corev1.ContainerStatus) *corev1.ContainerStateTerminated {
	switch {
	case s.State.Terminated != nil:
		return s.State.Terminated
	case s.State.Waiting != nil:
		return s.LastTerminationState.Terminated
	}
	return nil
}

func (m *maker) count(c ctr, s *corev1.ContainerStatus, t *tally) {
	if s.State.Running != nil {
		t.running++
		return
	}
	e := exit(s)
	// One that waits although its policy would not start it again is part of a pod that starts over.
	if e == nil || s.State.Waiting != nil && !m.stopping && !m.restarts(c, e.ExitCode) {
		t.waiting++
		return
	}
	t.stopped++
	if !m.restarts(c, e.ExitCode) {
		t.final++
	}
	if s.State.Terminated != nil && e.ExitCode == 0 {
		t.succeeded++
	}
}

// countInit looks at the init containers: is one of them still to complete, has one failed for good?
func (m *maker) countInit(s *corev1.PodStatus, t *tally) (pending, failed bool) {
	i := -1
	for _, c := range m.ctrs {
		if c.kind != initial && c.kind != sidecar {
			continue
		}
		i++
		cs := &s.InitContainerStatuses[i]
		e := exit(cs)
		switch {
		case c.kind == sidecar && cs.State.Running != nil:
			t.running++
			pending = pending || (!*cs.Started && !m.initialized(s))
		case c.kind == sidecar && e == nil:
			pending = pending || !m.initialized(s)
		case c.kind == sidecar:
		case e == nil:
			pending = true
		case e.ExitCode != 0:
			failed = failed || !m.restarts(c, e.ExitCode)
			pending = true
		}
	}
	return pending, failed
}
