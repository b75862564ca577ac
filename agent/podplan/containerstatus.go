package podplan

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/model"
)

// Caps of termination messages in the status, in bytes: of one container,
// and of all of a pod together.
const (
	maxTerminationMessage    = 4096
	maxPodTerminationMessage = 12 * 1024
)

// containerStatus is what is true of one container of the spec.
func (m *maker) containerStatus(c ctr) corev1.ContainerStatus {
	old, last := m.oldStatus(c.Name), m.rt.Latest(c.Name)
	if last == nil {
		return m.withoutContainer(c, old)
	}
	s := corev1.ContainerStatus{
		Name: c.Name, RestartCount: int32(last.Attempt), ContainerID: m.containerID(last),
		Image: last.Image, ImageID: last.ImageRef, VolumeMounts: mountStatuses(c, m.features().RecursiveReadOnly),
	}
	if s.Image == "" {
		s.Image = c.Image
	}
	if old != nil {
		s.RestartCount = max(s.RestartCount, old.RestartCount)
	}
	s.State = m.containerState(last, old)
	s.LastTerminationState = m.lastTermination(last, old)
	m.addResources(c, last, &s)
	addUser(c, last, &s)
	m.addHealth(c, &s)
	m.addClaimHealth(c, &s)
	m.overlayWait(c, last, &s)
	m.setReady(c, last, old, &s)
	return s
}

// withoutContainer is the status of a container that the runtime has nothing of.
func (m *maker) withoutContainer(c ctr, old *corev1.ContainerStatus) corev1.ContainerStatus {
	s := corev1.ContainerStatus{
		Name: c.Name, Image: c.Image, State: m.defaultWait().state(), Started: new(bool),
		VolumeMounts: mountStatuses(c, m.features().RecursiveReadOnly),
	}
	over := m.startingOver() && !m.stopping
	if c.kind == initial && !over && m.pastInit(c) && (old == nil || old.State.Terminated == nil) {
		// Its remains are gone, and it must have completed: a container behind it was created.
		s.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "Completed",
			Message: "Unable to get init container status from container runtime and pod has been initialized, treat it as exited normally"}}
		s.Ready = true
		return s
	}
	if old == nil {
		m.applyWait(c, &s)
		return s
	}
	if old.State.Terminated != nil && !over && (m.stopping || c.kind == initial || c.kind == ephemeral || !m.restarts(c, old.State.Terminated.ExitCode)) {
		// It has ended, and its remains have been removed.
		return *old.DeepCopy()
	}
	s.RestartCount = old.RestartCount
	s.LastTerminationState = *old.LastTerminationState.DeepCopy()
	switch {
	case old.State.Terminated != nil:
		s.LastTerminationState = *old.State.DeepCopy()
	case old.State.Running != nil && m.stopping:
		s.State = lostState("The container could not be located when the pod was terminated")
	case old.State.Running != nil:
		s.LastTerminationState = lostState("The container could not be located in the runtime. It used to be Running")
	}
	m.applyWait(c, &s)
	return s
}

// pastInit: a container that comes after this one exists in the runtime.
func (m *maker) pastInit(c ctr) bool {
	after := false
	for _, o := range m.ctrs {
		if after && o.kind != ephemeral && m.rt.Latest(o.Name) != nil {
			return true
		}
		after = after || o.Name == c.Name
	}
	return false
}

func (m *maker) defaultWait() waiting {
	if len(m.obj.Spec.InitContainers) > 0 {
		return waiting{reason: ReasonPodInitializing}
	}
	return waiting{reason: ReasonContainerCreating}
}

func (m *maker) containerState(last *model.Container, old *corev1.ContainerStatus) corev1.ContainerState {
	switch last.State {
	case model.ContainerRunning:
		if m.Notes.Containers[last.ID].PostStart {
			return m.defaultWait().state() // it counts as running once its hook has succeeded
		}
		return corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: *stamp(last.Started)}}
	case model.ContainerExited:
		return m.ended(last)
	case model.ContainerUnknown:
		if old != nil && old.State.Running != nil && old.ContainerID == m.containerID(last) {
			// Nobody can tell whether it still runs: saying nothing new is the truth.
			return *old.State.DeepCopy()
		}
	}
	return m.defaultWait().state()
}

func (m *maker) ended(c *model.Container) corev1.ContainerState {
	reason := c.Reason
	if reason == "" {
		reason = "Completed"
		if c.ExitCode != 0 {
			reason = "Error"
		}
	}
	t := &corev1.ContainerStateTerminated{
		ExitCode: c.ExitCode, Reason: reason, Message: m.clip(c.Message),
		FinishedAt: *stamp(c.Finished), ContainerID: m.containerID(c),
	}
	if !c.Started.IsZero() {
		t.StartedAt = *stamp(c.Started)
	}
	return corev1.ContainerState{Terminated: t}
}

// clip cuts a termination message to what the API takes.
func (m *maker) clip(message string) string {
	limit := maxTerminationMessage
	if n := len(m.ctrs); n > 0 {
		limit = min(limit, maxPodTerminationMessage/n)
	}
	if len(message) > limit {
		return message[:limit]
	}
	return message
}

// lastTermination is how the container before this one ended: from the
// runtime while it has that container, then from the API.
func (m *maker) lastTermination(last *model.Container, old *corev1.ContainerStatus) corev1.ContainerState {
	for i := range m.rt.Containers {
		if c := &m.rt.Containers[i]; c.Name == last.Name && c != last && c.State == model.ContainerExited {
			return m.ended(c)
		}
	}
	switch {
	case old == nil:
		return corev1.ContainerState{}
	case old.State.Terminated != nil && old.ContainerID != m.containerID(last):
		return *old.State.DeepCopy()
	}
	return *old.LastTerminationState.DeepCopy()
}

// overlayWait shows a dead container that is to start again, but may not yet, as waiting.
func (m *maker) overlayWait(c ctr, last *model.Container, s *corev1.ContainerStatus) {
	if _, ok := m.waits[c.Name]; !ok || last.State == model.ContainerRunning || m.stopping {
		return
	}
	if s.State.Terminated != nil {
		s.LastTerminationState = s.State
	}
	m.applyWait(c, s)
}

func (m *maker) applyWait(c ctr, s *corev1.ContainerStatus) {
	if w, ok := m.waits[c.Name]; ok && !m.stopping {
		s.State = w.state()
	}
}

// setReady fills in started and ready from probes; before the first probe of
// this process, what the API says of this very container stands.
func (m *maker) setReady(c ctr, last *model.Container, old *corev1.ContainerStatus, s *corev1.ContainerStatus) {
	started := s.State.Running != nil && (m.started(c, last) || c.kind == initial || c.kind == ephemeral)
	s.Started = &started
	switch {
	case c.kind == initial:
		s.Ready = s.State.Terminated != nil && s.State.Terminated.ExitCode == 0
		return
	case c.kind == ephemeral || !started:
		return
	case c.ReadinessProbe == nil:
		s.Ready = true
		return
	}
	switch m.verdict(last, model.Readiness) {
	case model.Success:
		s.Ready = true
	case model.Pending:
		s.Ready = old != nil && old.ContainerID == s.ContainerID && old.Ready
	}
}

func (m *maker) addResources(c ctr, last *model.Container, s *corev1.ContainerStatus) {
	if c.kind == ephemeral || last.State == model.ContainerCreated {
		return
	}
	s.AllocatedResources = c.Resources.Requests
	s.Resources = m.actual(c, last, m.oldStatus(c.Name))
}

// addHealth says how the devices are that the container has to itself (KEP-4680).
func (m *maker) addHealth(c ctr, s *corev1.ContainerStatus) {
	if m.grant == nil || c.kind != ordinary {
		return
	}
	devices := m.grant.Containers[c.Name].Devices
	for _, resource := range slices.Sorted(maps.Keys(devices)) {
		one := corev1.ResourceStatus{Name: corev1.ResourceName(resource)}
		for _, d := range devices[resource] {
			health := corev1.ResourceHealthStatusHealthy
			if d.Unhealthy {
				health = corev1.ResourceHealthStatusUnhealthy
			}
			one.Resources = append(one.Resources, corev1.ResourceHealth{ResourceID: corev1.ResourceID(d.ID), Health: health})
		}
		s.AllocatedResourcesStatus = append(s.AllocatedResourcesStatus, one)
	}
}

// addUser says who the container runs as. The effective stop signal is said only
// of containers that name one: only then the API is known to have the field (KEP-4960).
func addUser(c ctr, last *model.Container, s *corev1.ContainerStatus) {
	if u := last.User; u != nil {
		s.User = &corev1.ContainerUser{Linux: &corev1.LinuxContainerUser{UID: u.UID, GID: u.GID, SupplementalGroups: u.Groups}}
	}
	if c.Lifecycle != nil && c.Lifecycle.StopSignal != nil && last.StopSignal != "" {
		signal := corev1.Signal(last.StopSignal)
		s.StopSignal = &signal
	}
}

func mountStatuses(c ctr, recursive bool) []corev1.VolumeMountStatus {
	var all []corev1.VolumeMountStatus
	for _, v := range c.VolumeMounts {
		s := corev1.VolumeMountStatus{Name: v.Name, MountPath: v.MountPath, ReadOnly: v.ReadOnly}
		if v.ReadOnly {
			mode := corev1.RecursiveReadOnlyDisabled
			if recursive && v.RecursiveReadOnly != nil && *v.RecursiveReadOnly != corev1.RecursiveReadOnlyDisabled {
				mode = corev1.RecursiveReadOnlyEnabled
			}
			s.RecursiveReadOnly = &mode
		}
		all = append(all, s)
	}
	return all
}
