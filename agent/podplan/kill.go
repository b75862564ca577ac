package podplan

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/model"
)

// minGrace is what a container gets between SIGTERM and SIGKILL even when
// no time is left: so that a used up grace period is not a crash.
const minGrace = 2 * time.Second

// window is the time that a stop may take.
type window struct {
	end   time.Time
	grace time.Duration
}

func windowOf(since time.Time, grace time.Duration) window {
	return window{end: since.Add(grace), grace: grace}
}

// left is what there is of it for the signals. Who asks for one second means it, where a kubelet
// gives two; but a hook takes nothing of the least time.
func (w window) left(now time.Time, hadHook bool) time.Duration {
	least := minGrace
	if w.grace > 0 && !hadHook {
		least = min(least, w.grace)
	}
	return max(w.end.Sub(now), least)
}

// defaultGrace is terminationGracePeriodSeconds of a pod that does not say.
const defaultGrace = 30 * time.Second

// stopping is a container to be stopped.
type stopping struct {
	ctr   ctr // without a Container for one the spec no longer has
	last  *model.Container
	grace time.Duration
	why   Why
}

// Grace is how long the containers of a pod have to end.
func Grace(pod *corev1.Pod) time.Duration {
	switch {
	case pod.DeletionGracePeriodSeconds != nil:
		return seconds(*pod.DeletionGracePeriodSeconds)
	case pod.Spec.TerminationGracePeriodSeconds != nil:
		return seconds(*pod.Spec.TerminationGracePeriodSeconds)
	}
	return defaultGrace
}

func (m *maker) grace() time.Duration { return StopGrace(m.obj, m.evicted()) }

// kill stops one container while the pod goes on.
func (m *maker) kill(s stopping) {
	since := m.Notes.Containers[s.last.ID].Stopping
	if since.IsZero() {
		since = m.now
	}
	m.halt(s.last, preStop(s.ctr, s.last), windowOf(since, s.grace), s.why)
}

// halt plans the next step to stop a container: the hook, then the signals.
func (m *maker) halt(c *model.Container, hook *corev1.LifecycleHandler, w window, why Why) {
	if why.Message == "" {
		why.Message = "Stopping container " + c.Name
	}
	if m.hooks(c, hook, w.end, why) {
		return
	}
	m.add(KillContainer{ID: c.ID, Name: c.Name, Grace: w.left(m.now, m.Notes.Containers[c.ID].PreStopDone), Why: why})
}

// hooks plans the preStop hook where it is still to run and there is time for it.
func (m *maker) hooks(c *model.Container, hook *corev1.LifecycleHandler, deadline time.Time, why Why) bool {
	left := deadline.Sub(m.now)
	if hook == nil || left <= 0 || c.State != model.ContainerRunning || m.Notes.Containers[c.ID].PreStopDone {
		return false
	}
	m.wake(deadline)
	m.add(PreStop{ID: c.ID, Name: c.Name, Handler: hook, Within: left, Why: why})
	return true
}

// preStop is the hook of the spec, else the one written on the container.
func preStop(c ctr, last *model.Container) *corev1.LifecycleHandler {
	if c.Container != nil {
		if c.Lifecycle == nil {
			return nil
		}
		return c.Lifecycle.PreStop
	}
	raw := last.Annotations[AnnotationPreStop]
	if raw == "" {
		return nil
	}
	var h corev1.LifecycleHandler
	if json.Unmarshal([]byte(raw), &h) != nil {
		return nil // not ours, or damaged: the container is stopped without it
	}
	return &h
}

// stop plans for a pod none of whose containers is to run any more.
func (m *maker) stop(why Why) {
	m.stopping = true
	m.plan.Stopping, m.plan.Grace = true, m.grace()
	since := m.Notes.Stopping
	if since.IsZero() {
		since = m.now
	}
	if m.stopAlive(windowOf(since, m.grace()), why) {
		return
	}
	m.dismantle()
}

// stopAlive stops what runs: all but the sidecars at once, then the sidecars
// one by one from the last to the first; after the deadline nobody waits for
// anybody. preStop hooks do not wait for their container's turn.
func (m *maker) stopAlive(w window, why Why) (any bool) {
	mains := false
	var sidecars []stopping
	for i := range m.rt.Containers {
		c := &m.rt.Containers[i]
		if !alive(c) {
			continue
		}
		any = true
		spec, _ := m.find(c.Name)
		if spec.Container != nil && spec.kind == sidecar && m.rt.Latest(c.Name) == c {
			continue
		}
		mains = true
		m.halt(c, preStop(spec, c), w, why)
	}
	for _, spec := range m.ctrs {
		if c := m.rt.Latest(spec.Name); spec.kind == sidecar && c != nil && alive(c) {
			sidecars = append(sidecars, stopping{ctr: spec, last: c})
		}
	}
	late := !m.now.Before(w.end)
	for i, s := range sidecars {
		hook := preStop(s.ctr, s.last)
		if late || (!mains && i == len(sidecars)-1) {
			m.halt(s.last, hook, w, why)
			continue
		}
		m.wake(w.end)
		m.hooks(s.last, hook, w.end, Why{why.Reason, "Stopping container " + s.last.Name})
	}
	return any
}

// dismantle takes down what is left once nothing runs. Containers stay for
// their logs as long as the pod exists; and a pod that is being deleted keeps them until
// the API has its last status, which is made of them.
func (m *maker) dismantle() {
	up := false
	for i := range m.rt.Sandboxes {
		if m.rt.Sandboxes[i].Ready {
			up = true
			m.add(StopSandbox{ID: m.rt.Sandboxes[i].ID})
		}
	}
	held := m.claimsHeld()
	if held && !up {
		m.add(ReleaseClaims{UID: m.UID})
	}
	switch {
	case m.obj != nil && m.obj.DeletionTimestamp == nil:
		m.prune()
	case up, held, m.obj != nil && !terminal(m.obj.Status.Phase):
	default:
		m.remove()
	}
}

// remove removes all of a pod from the runtime, and then from the API.
func (m *maker) remove() {
	known := map[string]bool{}
	for i := range m.rt.Sandboxes {
		known[m.rt.Sandboxes[i].ID] = true
		m.add(RemoveSandbox{ID: m.rt.Sandboxes[i].ID}) // with the containers in it
	}
	for i := range m.rt.Containers {
		if c := &m.rt.Containers[i]; !known[c.SandboxID] {
			m.add(RemoveContainer{ID: c.ID, Name: c.Name, LogPath: c.LogPath})
		}
	}
	_, volumes := m.World.Volumes.Get(m.UID)
	switch {
	case len(m.plan.Actions) > 0 || volumes:
	case m.obj != nil:
		m.add(DeletePodObject{Key: podKey(m.obj), UID: m.UID})
	default:
		m.add(ForgetPod{UID: m.UID})
	}
}

// orphan plans for what the runtime has of a pod the API does not know.
func (m *maker) orphan() {
	m.stopping = true
	any := false
	for i := range m.rt.Containers {
		c := &m.rt.Containers[i]
		if !alive(c) {
			continue
		}
		any = true
		why := Why{"Orphan", fmt.Sprintf("Stopping container %s: its pod %s is gone", c.Name, m.rt.Pod)}
		m.kill(stopping{last: c, grace: annotatedGrace(c), why: why})
	}
	if !any {
		m.dismantle()
	}
}

// annotatedGrace is the grace period written on a container.
func annotatedGrace(c *model.Container) time.Duration {
	for _, key := range []string{AnnotationDeletionGrace, AnnotationGrace} {
		if n, err := strconv.ParseInt(c.Annotations[key], 10, 64); err == nil {
			return seconds(n)
		}
	}
	return defaultGrace
}
