package podplan

import (
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/agent/image/imageplan"
	"nodelet/internal/model"
)

// start plans the next step towards a running container; false when nothing of it can be begun now.
func (m *maker) start(sb *model.Sandbox, c ctr) bool {
	last := m.rt.Latest(c.Name)
	if m.anotherRuns(c.Name) || m.backsOff(c, m.crashed(sb, c)) || m.failedJustNow(c) {
		return false
	}
	if last != nil && last.State == model.ContainerCreated && sb != nil && last.SandboxID == sb.ID {
		// Also one made from an earlier definition: a request to start it may still be under way, so it
		// cannot be removed in peace. Once it runs, it can be ended with grace.
		m.add(StartContainer{ID: last.ID, Name: c.Name, LogPath: last.LogPath, PostStart: postStart(c)})
		return true
	}
	attempt := m.attempt(c, last)
	images, ready := m.images(c, attempt)
	if !ready || sb == nil || !m.volumesReady() || !m.granted() || !m.claimsReady() {
		return false
	}
	action, err := m.createContainer(sb, c, attempt, images)
	if err != nil {
		m.refuse(c, err)
		return false
	}
	m.add(action)
	return true
}

// anotherRuns: a container of that name runs, be it the newest or not.
func (m *maker) anotherRuns(name string) bool {
	return slices.ContainsFunc(m.rt.Containers, func(c model.Container) bool { return c.Name == name && alive(&c) })
}

// crashed is the container whose end the back-off counts from. An init
// container that is run again because the sandbox is new has not crashed.
func (m *maker) crashed(sb *model.Sandbox, c ctr) *model.Container {
	if c.kind == initial {
		return m.latestIn(sb, c.Name)
	}
	return m.rt.Latest(c.Name)
}

// refuse notes why a container's configuration could not be made.
func (m *maker) refuse(c ctr, err error) {
	var wrong *configError
	if errors.As(err, &wrong) {
		m.waits[c.Name] = waiting{ReasonConfigError, err.Error()}
		m.problem(c.Name, "Failed", "Error: "+err.Error())
	}
}

// backsOff: the container crashed lately and waits for its restart.
func (m *maker) backsOff(c ctr, last *model.Container) bool {
	if last == nil || last.State != model.ContainerExited || m.replaced(c, last) {
		return false
	}
	wait, _ := crashDelay(last, m.Settings.maxBackOff())
	due := last.Finished.Add(wait)
	if wait == 0 || !m.now.Before(due) || m.yetToCome(last.Finished) {
		return false
	}
	m.wake(due)
	pod := fmt.Sprintf("%s_%s(%s)", m.obj.Name, m.obj.Namespace, m.obj.UID)
	m.waits[c.Name] = waiting{ReasonCrashLoop, fmt.Sprintf("back-off %s restarting failed container=%s pod=%s", wait, c.Name, pod)}
	m.problem(c.Name, "BackOff", fmt.Sprintf("Back-off restarting failed container %s in pod %s", c.Name, pod))
	return true
}

// yetToCome: the time of something that has happened lies further ahead than an observation takes, because the
// clock was set back since. It says nothing of how long ago that was.
func (m *maker) yetToCome(t time.Time) bool { return t.Sub(m.now) > backOffMax }

// failedJustNow: the runtime refused to create or start it a moment ago.
func (m *maker) failedJustNow(c ctr) bool {
	f, ok := m.Notes.Failures[c.Name]
	if !ok {
		return false
	}
	// Shown until it works: the next attempt will most likely fail the same way.
	m.waits[c.Name] = waiting{f.Reason, f.Message}
	if due := f.due(); m.now.Before(due) {
		m.wake(due)
		return true
	}
	return false
}

// skip is by how much to raise the attempt: the runtime keeps a name for
// somebody it never shows, so adopting is impossible.
func (f Failure) skip() uint32 {
	const patience = 5
	if f.Reserved < patience {
		return 0
	}
	return uint32(f.Reserved-patience) + 1
}

// images are the ids of the images that one start of a container needs.
type images struct {
	own string
	// volumes are those of image volumes, by the volume's name.
	volumes map[string]*runtimev1.ImageSpec
}

// images tells how far the images for the next container are: its own, and
// those of the image volumes it mounts.
func (m *maker) images(c ctr, attempt uint32) (all images, ready bool) {
	all.own, ready = m.image(c, EnsureImage{Container: c.Name, Image: c.Image, Policy: pullPolicy(c.ImagePullPolicy), Attempt: attempt})
	all.volumes = map[string]*runtimev1.ImageSpec{}
	for i := range c.VolumeMounts {
		v := m.volume(c.VolumeMounts[i].Name)
		if !ready || v == nil || v.Image == nil {
			continue
		}
		var id string
		id, ready = m.image(c, EnsureImage{Container: c.Name, Image: v.Image.Reference, Policy: pullPolicy(v.Image.PullPolicy), Attempt: attempt})
		all.volumes[v.Name] = &runtimev1.ImageSpec{Image: id, UserSpecifiedImage: v.Image.Reference}
	}
	return all, ready
}

func (m *maker) volume(name string) *corev1.Volume {
	for i := range m.obj.Spec.Volumes {
		if m.obj.Spec.Volumes[i].Name == name {
			return &m.obj.Spec.Volumes[i]
		}
	}
	return nil
}

// image tells how far an image for the next container is, asks for it where
// that helps, and gives its id once it is there.
func (m *maker) image(c ctr, need EnsureImage) (id string, ready bool) {
	access := imageplan.Credentials(m.obj, need.Image, m.World.Configs.Get)
	if access.Wait {
		return "", false
	}
	row, _ := m.World.Images.Get(model.ImageRef(need.Image))
	v := imageplan.Decide(row, imageplan.Need{
		Image: need.Image, Policy: need.Policy, Credentials: access.Key,
		Container: model.ContainerKey{PodUID: m.UID, Name: c.Name},
		Attempt:   need.Attempt,
	}, m.now)
	switch {
	case v.State == model.ImagePresent:
		return v.ID, true
	case v.Ask:
		m.add(need)
	}
	switch old := m.oldStatus(c.Name); {
	case (v.Ask || v.State == model.ImagePulling) && old != nil && old.State.Waiting != nil && pullFailed(old.State.Waiting.Reason):
		// The next attempt is under way: what is known is still how the last one went.
		m.waits[c.Name] = waiting{old.State.Waiting.Reason, old.State.Waiting.Message}
	case v.State == model.ImageFailed:
		m.waits[c.Name] = waiting{v.Reason, v.Message}
		if v.Reason == imageplan.ImagePullBackOff {
			m.problem(c.Name, "BackOff", fmt.Sprintf("Back-off pulling image %q", need.Image))
		}
	}
	if !v.Again.IsZero() {
		m.wake(v.Again)
	}
	return "", false
}

func pullFailed(reason string) bool {
	return reason == imageplan.ErrImagePull || reason == imageplan.ImagePullBackOff
}

func pullPolicy(p corev1.PullPolicy) corev1.PullPolicy {
	if p == "" {
		return corev1.PullIfNotPresent
	}
	return p
}

// volumesReady: all volumes are there. The volume part says itself what keeps them.
func (m *maker) volumesReady() bool {
	if len(m.obj.Spec.Volumes) == 0 {
		return true
	}
	return m.volumes().State == model.VolumesReady
}

// attempt is the restart count of the next container of that name.
func (m *maker) attempt(c ctr, last *model.Container) uint32 {
	n := uint32(0)
	if last != nil {
		n = last.Attempt + 1
	}
	// The API remembers what a runtime that was wiped does not.
	if old := m.oldStatus(c.Name); last == nil && old != nil && (old.ContainerID != "" || old.LastTerminationState.Terminated != nil) {
		n = uint32(max(old.RestartCount, 0)) + 1
	}
	if f, ok := m.Notes.Failures[c.Name]; ok {
		n += f.skip()
	}
	return n
}

func postStart(c ctr) *corev1.LifecycleHandler {
	if c.Lifecycle == nil {
		return nil
	}
	return c.Lifecycle.PostStart
}

// nextLevel is the back-off level to write on the next container of that name.
func (m *maker) nextLevel(sb *model.Sandbox, c ctr) int {
	last := m.crashed(sb, c)
	if last == nil || last.State != model.ContainerExited || m.replaced(c, last) {
		return 0
	}
	_, next := crashDelay(last, m.Settings.maxBackOff())
	return next
}

type duration = time.Duration

func seconds(n int64) time.Duration {
	const most = 10 * 365 * 24 * 3600 // larger values would overflow a Duration further on
	return time.Duration(min(max(n, 0), most)) * time.Second
}
