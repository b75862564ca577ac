package podplan

import (
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/agent/admission"
	"nodelet/internal/model"
)

// Make says what to do next for one pod, and what is true of it.
func Make(f Facts, now time.Time) Plan {
	if !f.World.Runtime.Synced() {
		return Plan{}
	}
	m := &maker{Facts: f, now: now, obj: f.pod(), rt: f.runtime(), waits: map[string]waiting{}}
	if m.obj == nil {
		if f.World.Pods.Missing(f.UID) {
			m.orphan()
		}
		return m.plan
	}
	row, decided := f.World.Allocations.Get(f.UID)
	if decided {
		m.allocation, m.obj = row, admission.Granted(m.obj, row)
	}
	if decided && row.Rejected {
		m.end = ending{phase: corev1.PodFailed, reason: row.Reason, message: row.Message}
	}
	if grant, ok := f.World.Grants.Get(f.UID); ok {
		m.grant = grant
		if grant.Rejected && m.end.phase == "" {
			m.end = ending{phase: corev1.PodFailed, reason: grant.Reason, message: grant.Message}
		}
	}
	refused := m.volumes().Refused
	if refused != "" && m.end.phase == "" {
		m.end = ending{phase: corev1.PodFailed, reason: refused, message: m.volumes().Message}
	}
	m.ctrs = containers(m.obj)
	switch {
	case m.obj.DeletionTimestamp != nil:
		m.stop(Why{Reason: "Deleted"})
	case terminal(m.obj.Status.Phase):
		m.stop(Why{Reason: string(m.obj.Status.Phase)})
	case m.evicted() != nil:
		m.end = evictEnd(m.evicted())
		m.stop(Why{Reason: m.evicted().Why()})
	case m.overdue():
		m.end = ending{phase: corev1.PodFailed, reason: "DeadlineExceeded",
			message: "Pod was active on the node longer than the specified deadline"}
		m.stop(Why{Reason: "DeadlineExceeded"})
	case !decided:
		return m.plan // whether the node takes it is not known yet
	case row.Rejected:
		m.stop(Why{Reason: row.Reason})
	case m.grant != nil && m.grant.Rejected:
		m.stop(Why{Reason: m.grant.Reason})
	case refused != "":
		m.stop(Why{Reason: refused})
	case m.makesRoom():
		// Those that make room for it are on their way out: what they end wakes this pod.
	default:
		m.run()
	}
	status := m.status()
	m.plan.Status = &status
	return m.plan
}

// maker is the state of one run of Make.
type maker struct {
	Facts
	now time.Time
	obj *corev1.Pod // with the resources granted to it; nil: an orphan
	// allocation is nil while the node has not decided about the pod.
	allocation *model.Allocation
	// grant is nil for a pod that has nothing to itself, or not yet.
	grant *model.Grant
	rt    *model.PodRuntime
	ctrs  []ctr
	plan  Plan
	// waits says why containers do not run, for the status.
	waits map[string]waiting
	// stopping: no container of the pod is to run any more.
	stopping bool
	end      ending
}

// ending is the phase a pod ends in by a decision of the node, apart from its containers' exit codes.
type ending struct {
	phase           corev1.PodPhase
	reason, message string
}

func (m *maker) add(a Action) { m.plan.Actions = append(m.plan.Actions, a) }

func (m *maker) problem(container, reason, message string) {
	m.plan.Problems = append(m.plan.Problems, Problem{Container: container, Reason: reason, Message: message})
}

// wake asks to be called again at t at the latest.
func (m *maker) wake(t time.Time) {
	if m.plan.Wake.IsZero() || t.Before(m.plan.Wake) {
		m.plan.Wake = t
	}
}

// kind is the role of a container in its pod.
type kind uint8

const (
	initial   kind = iota // runs to completion before the next one
	sidecar               // init container with restartPolicy Always
	ordinary              // one of spec.containers
	ephemeral             // added for debugging, never restarted
)

// ctr is a container of the spec.
type ctr struct {
	*corev1.Container
	kind kind
	// target is the container whose process namespace an ephemeral container joins.
	target string
}

// containers gives all containers of a pod in the order in which they start.
func containers(pod *corev1.Pod) []ctr {
	spec := &pod.Spec
	all := make([]ctr, 0, len(spec.InitContainers)+len(spec.Containers)+len(spec.EphemeralContainers))
	for i := range spec.InitContainers {
		c := ctr{Container: &spec.InitContainers[i], kind: initial}
		if p := c.RestartPolicy; p != nil && *p == corev1.ContainerRestartPolicyAlways {
			c.kind = sidecar
		}
		all = append(all, c)
	}
	for i := range spec.Containers {
		all = append(all, ctr{Container: &spec.Containers[i], kind: ordinary})
	}
	for i := range spec.EphemeralContainers {
		e := &spec.EphemeralContainers[i]
		common := corev1.Container(e.EphemeralContainerCommon)
		all = append(all, ctr{Container: &common, kind: ephemeral, target: e.TargetContainerName})
	}
	return all
}

func (m *maker) find(name string) (ctr, bool) {
	for _, c := range m.ctrs {
		if c.Name == name {
			return c, true
		}
	}
	return ctr{}, false
}

func terminal(p corev1.PodPhase) bool { return p == corev1.PodSucceeded || p == corev1.PodFailed }

// alive: the container runs, or nobody can tell.
func alive(c *model.Container) bool {
	return c.State == model.ContainerRunning || c.State == model.ContainerUnknown
}

func (m *maker) anyAlive() bool {
	for i := range m.rt.Containers {
		if alive(&m.rt.Containers[i]) {
			return true
		}
	}
	return false
}

// overdue reports whether activeDeadlineSeconds have passed, and else wakes when they will have.
func (m *maker) overdue() bool {
	limit, start := m.obj.Spec.ActiveDeadlineSeconds, m.obj.Status.StartTime
	if limit == nil || start == nil {
		return false
	}
	end := start.Add(time.Duration(*limit) * time.Second)
	if !m.now.Before(end) {
		return true
	}
	m.wake(end)
	return false
}

// run plans for a pod that is to run.
func (m *maker) run() {
	sb := m.current()
	if sb != nil && m.startOver() {
		return
	}
	todo := m.order(sb)
	if todo.over {
		m.stop(Why{Reason: "Completed"})
		return
	}
	for _, k := range append(todo.kill, m.superseded(sb)...) {
		m.kill(k)
	}
	if !m.leave(sb) {
		return // first what is left of earlier sandboxes must end
	}
	if sb == nil {
		m.createSandbox()
	} else {
		m.resize(sb)
	}
	for _, c := range todo.start {
		begun := m.start(sb, c)
		if !begun && c.kind == initial {
			break
		}
		if begun && c.Lifecycle != nil && c.Lifecycle.PostStart != nil {
			break // its hook comes before the containers after it
		}
	}
	m.prune()
}

// makesRoom: a pod that has to go for this one still runs.
func (m *maker) makesRoom() bool {
	if m.current() != nil {
		return false // it has begun; what runs is not stopped again
	}
	return slices.ContainsFunc(m.allocation.After, func(uid model.UID) bool {
		rt, ok := m.World.Runtime.Get(uid)
		return ok && slices.ContainsFunc(rt.Containers, func(c model.Container) bool { return alive(&c) })
	})
}

// current is the sandbox the pod's containers belong into; nil when a new one is needed.
func (m *maker) current() *model.Sandbox {
	if len(m.rt.Sandboxes) == 0 {
		return nil
	}
	sb := &m.rt.Sandboxes[0]
	host := m.obj.Spec.HostNetwork
	if !sb.Ready || sb.HostNetwork != host || (!host && len(sb.IPs) == 0) {
		return nil
	}
	return sb
}

// leave stops what is in other sandboxes than sb; true when none of them is up any more.
func (m *maker) leave(sb *model.Sandbox) bool {
	gone := true
	busy := map[string]bool{}
	for i := range m.rt.Containers {
		c := &m.rt.Containers[i]
		if !alive(c) || (sb != nil && c.SandboxID == sb.ID) {
			continue
		}
		gone, busy[c.SandboxID] = false, true
		spec, _ := m.find(c.Name)
		m.kill(stopping{ctr: spec, last: c, grace: m.grace(), why: Why{Reason: "SandboxChanged"}})
	}
	for i := range m.rt.Sandboxes {
		old := &m.rt.Sandboxes[i]
		if !old.Ready || (sb != nil && old.ID == sb.ID) {
			continue
		}
		gone = false
		if !busy[old.ID] {
			m.add(StopSandbox{ID: old.ID})
		}
	}
	return gone
}

// superseded gives the containers that run although a newer one of their name
// exists: a request to start them was thought lost and was not.
func (m *maker) superseded(sb *model.Sandbox) (all []stopping) {
	for i := range m.rt.Containers {
		c := &m.rt.Containers[i]
		if sb == nil || c.SandboxID != sb.ID || !alive(c) || m.rt.Latest(c.Name) == c {
			continue
		}
		spec, _ := m.find(c.Name)
		why := Why{"Superseded", fmt.Sprintf("Stopping container %s, a newer one has taken its place", c.Name)}
		all = append(all, stopping{ctr: spec, last: c, grace: m.grace(), why: why})
	}
	return all
}

// createSandbox plans the next sandbox, unless the last attempt failed a moment ago.
func (m *maker) createSandbox() {
	if !m.claimsReady() {
		return // a driver may have to prepare the network of the pod
	}
	attempt := uint32(0)
	if len(m.rt.Sandboxes) > 0 {
		attempt = m.rt.Sandboxes[0].Attempt + 1
	}
	if f, ok := m.Notes.Failures[""]; ok {
		if due := f.due(); m.now.Before(due) {
			m.wake(due)
			return
		}
		attempt += f.skip()
	}
	handler, err := m.handler()
	var config *runtimev1.PodSandboxConfig
	if err == nil {
		config, err = m.sandboxConfig(attempt)
	}
	var later *notYet
	switch {
	case errors.As(err, &later):
		return // what it waits for wakes it
	case err != nil:
		m.problem("", "FailedCreatePodSandBox", "Failed to create pod sandbox: "+err.Error())
		return
	}
	m.add(CreateSandbox{Config: config, Handler: handler, Pod: m.obj, Changed: attempt > 0})
}

// lostStart is for how long a request to start a container may take effect
// after its answer was given up: longer than any deadline of a call.
const lostStart = 10 * time.Minute

// prune removes dead containers but the newest of each name (its log is what
// `kubectl logs --previous` shows), and old sandboxes without containers.
func (m *maker) prune() {
	dead := map[string]bool{}
	inUse := map[string]bool{}
	for i := range m.rt.Containers {
		c := &m.rt.Containers[i]
		newest := m.rt.Latest(c.Name) == c
		remove := !alive(c) && !newest && (dead[c.Name] || c.State == model.ContainerCreated)
		if remove && c.State == model.ContainerCreated && m.now.Before(c.Created.Add(lostStart)) {
			remove = false // a request to start it may still take effect; removing it then would kill without grace
			m.wake(c.Created.Add(lostStart))
		}
		dead[c.Name] = dead[c.Name] || c.State == model.ContainerExited
		if remove {
			m.add(RemoveContainer{ID: c.ID, Name: c.Name, LogPath: c.LogPath})
		}
		inUse[c.SandboxID] = true
	}
	for i := range m.rt.Sandboxes {
		old := &m.rt.Sandboxes[i]
		if !old.Ready && !inUse[old.ID] && i > 0 {
			m.add(RemoveSandbox{ID: old.ID})
		}
	}
}
