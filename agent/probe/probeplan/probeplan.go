package probeplan

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/model"
)

// Facts is all that Next looks at.
type Facts struct {
	Key model.ProbeKey
	// Pod is nil when it is gone.
	Pod *corev1.Pod
	// Runtime is nil when the runtime has nothing of the pod.
	Runtime *model.PodRuntime
	// Standing is the verdict in the table, nil for none.
	Standing *model.Probe
	// Startup is the standing verdict of the container's startup probe, nil for none.
	Startup *model.Probe
}

// State is what the runner of a probe remembers between runs, and keeps for the
// next process. All of it may be lost: the probe then starts counting anew.
type State struct {
	// ContainerID is the container that the rest is about.
	ContainerID string
	// Last and Run: the last result, and how many times in a row it came.
	Last model.Verdict
	Run  int
	// Due is when to run next; zero before the first run.
	Due time.Time
	// Hold: no more runs for this container.
	Hold bool
	// Resumed: the rest is what an earlier process knew, and Due may be long past.
	Resumed bool
}

// Resume is what is left of a state in the next process: the counts stand, and
// the runs go on in the old rhythm. Whether to hold follows from the verdict.
func (s State) Resume() State {
	s.Hold, s.Resumed = false, true
	return s
}

// Alike reports whether nothing but the time of the next run differs.
func (s State) Alike(o State) bool {
	s.Due, o.Due = time.Time{}, time.Time{}
	return s == o
}

// Step is what to do about a probe now.
type Step struct {
	// Forget: the probe is no more; its verdict goes too.
	Forget bool
	// Verdict to put in the table, where Set.
	Set     bool
	Verdict model.Verdict
	// Run the probe now, against this container.
	Run       bool
	Container *corev1.Container
	ID        string
	Sandbox   string
	// Wait is when to look again; zero: when a fact changes.
	Wait time.Time
	// State to remember.
	State State
}

// Next decides what to do now. spread, between 0 and 1, delays the first run
// by that part of a period: 0 unless the daemon has just started.
func Next(f Facts, s State, now time.Time, spread float64) Step {
	if f.Pod == nil || ended(f.Pod) {
		return Step{Forget: true}
	}
	spec, always := find(f.Pod, f.Key.Container)
	probe := Of(spec, f.Key.Type)
	if probe == nil || !always {
		return Step{Forget: true}
	}
	c := latest(f.Runtime, f.Key.Container)
	if c == nil || c.State != model.ContainerRunning {
		return Step{} // a verdict says nothing of a container that does not run
	}
	if s.ContainerID != c.ID {
		s = State{ContainerID: c.ID}
	}
	step := Step{Container: spec, ID: c.ID, Sandbox: c.SandboxID, State: s}
	verdict := standing(f, c.ID)
	if f.Standing == nil || f.Standing.ContainerID != c.ID {
		step.Set, step.Verdict = true, verdict
	}
	if f.Pod.DeletionTimestamp != nil && f.Key.Type != model.Readiness {
		// A container that is being stopped is not to be restarted: peace until it ends.
		step.Set, step.Verdict = verdict != model.Success, model.Success
		return step
	}
	if s.Hold || holds(f.Key.Type, verdict) || !open(f, spec, c.ID) {
		return step
	}
	if s.Due.IsZero() {
		step.State.Due = later(c.Started.Add(seconds(probe.InitialDelaySeconds)), now.Add(time.Duration(spread*float64(period(probe)))))
	}
	if s.Resumed {
		step.State.Resumed = false
		if late := now.Sub(step.State.Due); late > 0 {
			step.State.Due = step.State.Due.Add(late.Truncate(period(probe)) + period(probe))
		}
	}
	if most := now.Add(max(seconds(probe.InitialDelaySeconds), period(probe))); step.State.Due.After(most) {
		step.State.Due = most // the clock was set back
	}
	if now.Before(step.State.Due) {
		step.Wait = step.State.Due
		return step
	}
	step.Run = true
	step.State.Due = now.Add(period(probe))
	return step
}

// After takes the result of a run into account: changed tells that the
// thresholds are reached for another verdict than the standing one.
func After(f Facts, s State, result model.Verdict) (next State, changed bool) {
	if s.Last != result {
		s.Last, s.Run = result, 0
	}
	spec, _ := find(f.Pod, f.Key.Container)
	probe := Of(spec, f.Key.Type)
	if probe == nil {
		return s, false
	}
	// Beyond the threshold there is nothing to count: a state that stays the same need not be kept anew.
	s.Run = min(s.Run+1, threshold(probe, result))
	if s.Run < threshold(probe, result) {
		return s, false
	}
	s.Hold = holds(f.Key.Type, result)
	return s, standing(f, s.ContainerID) != result
}

// holds: after this verdict the container either has started, or is to be
// restarted; there is nothing more to find out.
func holds(t model.ProbeType, v model.Verdict) bool {
	switch t {
	case model.Startup:
		return v != model.Pending
	case model.Liveness:
		return v == model.Failure
	}
	return false
}

// standing is the verdict on a container: the table's, or where that says
// nothing of this container, the one it begins with.
func standing(f Facts, id string) model.Verdict {
	if f.Standing != nil && f.Standing.ContainerID == id {
		return f.Standing.Verdict
	}
	return Initial(f.Pod, f.Key, id)
}

// Initial is the verdict that a container begins with. One of which the API
// knows that it was ready or had started before the daemon did keeps that.
func Initial(pod *corev1.Pod, key model.ProbeKey, id string) model.Verdict {
	old := status(pod, key.Container)
	if old != nil && bareID(old.ContainerID) != id {
		old = nil
	}
	switch key.Type {
	case model.Liveness:
		return model.Success
	case model.Readiness:
		if old != nil && old.Ready {
			return model.Success
		}
		return model.Failure
	}
	if old != nil && old.Started != nil && *old.Started {
		return model.Success
	}
	return model.Pending
}

// open reports whether the probe may run as far as the container's start is
// concerned: liveness and readiness wait for the startup probe, or where there
// is none, for a postStart hook.
func open(f Facts, spec *corev1.Container, id string) bool {
	switch {
	case f.Key.Type == model.Startup:
		return true
	case spec.StartupProbe != nil:
		return f.Startup != nil && f.Startup.ContainerID == id && f.Startup.Verdict == model.Success
	case spec.Lifecycle != nil && spec.Lifecycle.PostStart != nil:
		old := status(f.Pod, f.Key.Container)
		return old != nil && bareID(old.ContainerID) == id && old.Started != nil && *old.Started
	}
	return true
}

// Keys gives the probes of a pod: those of ordinary containers and sidecars.
func Keys(pod *corev1.Pod) []model.ProbeKey {
	var out []model.ProbeKey
	add := func(c *corev1.Container) {
		for _, t := range []model.ProbeType{model.Startup, model.Liveness, model.Readiness} {
			if Of(c, t) != nil {
				out = append(out, model.ProbeKey{PodUID: model.UID(pod.UID), Container: c.Name, Type: t})
			}
		}
	}
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; sidecar(c) {
			add(c)
		}
	}
	for i := range pod.Spec.Containers {
		add(&pod.Spec.Containers[i])
	}
	return out
}

// Of gives a container's probe of a type, nil for none.
func Of(c *corev1.Container, t model.ProbeType) *corev1.Probe {
	if c == nil {
		return nil
	}
	return [...]*corev1.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe}[t]
}

// Unhealthy is the text of the event about a run that did not succeed.
func Unhealthy(t model.ProbeType, output string, ran bool) string {
	if !ran {
		return fmt.Sprintf("%s probe errored and resulted in unknown state: %s", title(t), output)
	}
	return fmt.Sprintf("%s probe failed: %s", title(t), output)
}

// Odd is the text of the event about a run that succeeded otherwise than was meant.
func Odd(t model.ProbeType, output string) string {
	return fmt.Sprintf("%s probe warning: %s", title(t), output)
}

func title(t model.ProbeType) string {
	name := t.String()
	return strings.ToUpper(name[:1]) + name[1:]
}

func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// find gives a container by name, and whether it is of a kind that can have probes.
func find(pod *corev1.Pod, name string) (c *corev1.Container, probed bool) {
	for i := range pod.Spec.Containers {
		if pod.Spec.Containers[i].Name == name {
			return &pod.Spec.Containers[i], true
		}
	}
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == name {
			return &pod.Spec.InitContainers[i], sidecar(&pod.Spec.InitContainers[i])
		}
	}
	return nil, false
}

func sidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

func latest(rt *model.PodRuntime, name string) *model.Container {
	if rt == nil {
		return nil
	}
	return rt.Latest(name)
}

func status(pod *corev1.Pod, name string) *corev1.ContainerStatus {
	for _, list := range [][]corev1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// bareID is the id without the runtime's name, as in containerd://id.
func bareID(id string) string {
	if _, bare, ok := strings.Cut(id, "://"); ok {
		return bare
	}
	return id
}

// threshold is how many times in a row a result must come to become the verdict.
func threshold(p *corev1.Probe, v model.Verdict) int {
	if v == model.Success {
		return int(max(p.SuccessThreshold, 1))
	}
	return int(max(p.FailureThreshold, 1))
}

func period(p *corev1.Probe) time.Duration { return seconds(max(p.PeriodSeconds, 1)) }

func seconds(n int32) time.Duration { return time.Duration(max(n, 0)) * time.Second }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
