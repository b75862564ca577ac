package podplan

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/model"
)

// work is what the order of a pod's containers allows now.
type work struct {
	start []ctr
	kill  []stopping
	// over: nothing runs, and nothing is to be started ever again.
	over bool
}

// judgement is what becomes of one container.
type judgement uint8

const (
	keep  judgement = iota // it runs, as it should
	begin                  // it is to be started
	end                    // it runs and must be stopped first
	done                   // it has ended for good
)

// order decides which containers may start and which must stop, given the
// sandbox they belong into (nil: it is still to be made).
func (m *maker) order(sb *model.Sandbox) work {
	var w work
	if m.lostForGood(sb) {
		return work{over: true}
	}
	if sb != nil {
		m.orderEphemeral(&w)
	}
	switch initialized, failed := m.orderInit(sb, &w); {
	case failed:
		return work{over: true}
	case !initialized:
		return w
	}
	running := 0
	blocked := false
	for _, c := range m.ctrs {
		if c.kind != ordinary {
			continue
		}
		verdict := m.judge(sb, c, &w)
		if verdict != done {
			running++
		}
		if verdict == begin && !blocked {
			w.start = append(w.start, c)
		}
		// Containers start in order, and a postStart hook holds up the ones after it.
		last := m.rt.Latest(c.Name)
		blocked = blocked || (last != nil && m.Notes.Containers[last.ID].PostStart)
	}
	if running == 0 {
		return work{over: true}
	}
	return w
}

// lostForGood: the sandbox is gone, and a pod that is never restarted gets no second one.
func (m *maker) lostForGood(sb *model.Sandbox) bool {
	return sb == nil && len(m.rt.Sandboxes) > 0 && len(m.rt.Containers) > 0 && !m.anyAlive() &&
		m.obj.Spec.RestartPolicy == corev1.RestartPolicyNever &&
		!slices.ContainsFunc(m.ctrs, func(c ctr) bool { return c.kind == ordinary && c.RestartPolicy != nil })
}

func (m *maker) orderEphemeral(w *work) {
	for _, c := range m.ctrs {
		if c.kind != ephemeral {
			continue
		}
		last := m.rt.Latest(c.Name)
		if old := m.oldStatus(c.Name); last == nil && (old == nil || old.ContainerID == "") ||
			last != nil && last.State == model.ContainerCreated {
			w.start = append(w.start, c)
		}
	}
}

// orderInit walks the init containers. Only what happened in the current
// sandbox counts: a new sandbox initializes anew.
func (m *maker) orderInit(sb *model.Sandbox, w *work) (initialized, failed bool) {
	var inits []ctr
	begun := -1 // the last init container that has ever been begun in this sandbox
	for _, c := range m.ctrs {
		last := m.latestIn(sb, c.Name)
		switch c.kind {
		case initial, sidecar:
			inits = append(inits, c)
			if last != nil {
				begun = len(inits) - 1
			}
		case ordinary:
			initialized = initialized || last != nil
		}
	}
	if len(inits) == 0 {
		return true, false
	}
	if sb == nil && m.mainsDone() {
		// Initialization would be repeated for nothing.
		return true, false
	}
	if initialized {
		begun = len(inits)
	}
	// Sidecars before the furthest one are kept running; ordinary ones there have completed.
	for _, c := range inits[:max(begun, 0)] {
		if c.kind == sidecar && m.judge(sb, c, w) == begin {
			w.start = append(w.start, c)
		}
	}
	if initialized {
		return true, false
	}
	if begun < 0 {
		w.start = append(w.start, inits[0])
		return false, false
	}
	passed, failed := m.orderLast(sb, inits[begun], w)
	if !passed || failed {
		return false, failed
	}
	if begun == len(inits)-1 {
		return true, false
	}
	w.start = append(w.start, inits[begun+1])
	return false, false
}

// orderLast looks at the init container that was begun last: may the next one start?
func (m *maker) orderLast(sb *model.Sandbox, c ctr, w *work) (passed, failed bool) {
	last := m.latestIn(sb, c.Name)
	if c.kind == initial && last.State == model.ContainerExited && last.ExitCode == 0 {
		return true, false
	}
	switch m.judge(sb, c, w) {
	case begin:
		w.start = append(w.start, c)
	case done:
		return false, true
	case keep:
		return c.kind == sidecar && m.started(c, last), false
	}
	return false, false
}

// mainsDone: every ordinary container has ended for good.
func (m *maker) mainsDone() bool {
	for _, c := range m.ctrs {
		if c.kind == ordinary && m.judge(nil, c, &work{}) != done {
			return false
		}
	}
	return true
}

// judge says what becomes of a container that is due to run, and adds it to w.kill where it must be stopped.
func (m *maker) judge(sb *model.Sandbox, c ctr, w *work) judgement {
	last := m.rt.Latest(c.Name)
	if c.kind == initial {
		last = m.latestIn(sb, c.Name)
	}
	switch {
	case last == nil:
		old := m.oldStatus(c.Name)
		if c.kind == ordinary && !m.startingOver() && old != nil && old.State.Terminated != nil && !m.restarts(c, old.State.Terminated.ExitCode) {
			return done // the runtime has forgotten it, the API has not
		}
		return begin
	case restartsAll(c, last):
		return keep // startOver sees to it
	case last.State == model.ContainerExited:
		if m.restarts(c, last.ExitCode) || (last.ExitCode != 0 && changed(c, last)) || m.stoppedToResize(c, last) {
			return begin
		}
		return done
	case last.State == model.ContainerCreated:
		return begin
	case sb == nil || last.SandboxID != sb.ID:
		return keep // on its way out with its sandbox
	}
	why, grace, bad := m.mustStop(c, last)
	if !bad {
		return keep
	}
	w.kill = append(w.kill, stopping{ctr: c, last: last, grace: grace, why: why})
	return end
}

// restarts applies restart rules and policies to an exit code.
func (m *maker) restarts(c ctr, code int32) bool {
	if c.kind == ephemeral {
		return false
	}
	if rule(c, code) != nil {
		return true // alone, or with all others
	}
	if c.RestartPolicy != nil {
		switch *c.RestartPolicy {
		case corev1.ContainerRestartPolicyAlways:
			return true
		case corev1.ContainerRestartPolicyOnFailure:
			return code != 0
		case corev1.ContainerRestartPolicyNever:
			return false
		}
	}
	switch m.obj.Spec.RestartPolicy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return code != 0
	}
	// An init container that succeeded is not run again within its sandbox.
	return c.kind != initial || code != 0
}

func matches(on *corev1.ContainerRestartRuleOnExitCodes, code int32) bool {
	if on == nil {
		return false
	}
	in := slices.Contains(on.Values, code)
	return in == (on.Operator == corev1.ContainerRestartRuleOnExitCodesOpIn)
}

// mustStop says why a running container must be stopped although the pod goes on.
func (m *maker) mustStop(c ctr, last *model.Container) (why Why, grace duration, bad bool) {
	grace = m.grace()
	again := ", will be restarted"
	if !m.restarts(c, 1) {
		again = ""
	}
	switch {
	case last.State == model.ContainerUnknown:
		return Why{"Unknown", fmt.Sprintf("Container %s is in an unknown state, stopping it before restart", c.Name)}, grace, true
	case c.kind == ephemeral || c.kind == initial:
		return Why{}, 0, false
	case changed(c, last):
		return Why{"Changed", fmt.Sprintf("Container %s definition changed, will be restarted", c.Name)}, grace, true
	case m.restartsToResize(c, last):
		return Why{"Resize", fmt.Sprintf("Container %s resize requires restart", c.Name)}, grace, true
	case c.LivenessProbe != nil && m.verdict(last, model.Liveness) == model.Failure:
		return Why{"LivenessProbe", fmt.Sprintf("Container %s failed liveness probe%s", c.Name, again)}, probeGrace(c.LivenessProbe, grace), true
	case c.StartupProbe != nil && m.verdict(last, model.Startup) == model.Failure:
		return Why{"StartupProbe", fmt.Sprintf("Container %s failed startup probe%s", c.Name, again)}, probeGrace(c.StartupProbe, grace), true
	}
	return Why{}, 0, false
}

func probeGrace(p *corev1.Probe, grace duration) duration {
	if p.TerminationGracePeriodSeconds != nil {
		return seconds(*p.TerminationGracePeriodSeconds)
	}
	return grace
}

// latestIn is the newest container of that name if it is in sandbox sb.
func (m *maker) latestIn(sb *model.Sandbox, name string) *model.Container {
	last := m.rt.Latest(name)
	if last == nil || sb == nil || last.SandboxID != sb.ID {
		return nil
	}
	return last
}

// started: the container runs, its postStart hook and its startup probe have succeeded.
func (m *maker) started(c ctr, last *model.Container) bool {
	if last == nil || last.State != model.ContainerRunning || m.Notes.Containers[last.ID].PostStart {
		return false
	}
	if c.StartupProbe == nil {
		return true
	}
	switch m.verdict(last, model.Startup) {
	case model.Success:
		return true
	case model.Failure:
		return false
	}
	// Not probed yet by this process: what was true before it started still is.
	old := m.oldStatus(c.Name)
	return old != nil && old.ContainerID == m.containerID(last) && old.Started != nil && *old.Started
}
