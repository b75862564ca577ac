package agent

import (
	"context"
	"errors"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"nodelet/cri"
	"nodelet/internal/model"
	"nodelet/internal/reconcile"
)

// A runtime says that a container has exited when it has cleaned up after it: containerd runs runc once
// more, which takes longer than all else between an exit and its restart. What it knows before is used
// where nothing is lost by it.

// earlyExit is the end of a container that the runtime still says runs.
type earlyExit struct {
	cri.Exit
	pod model.UID
}

// endingLooks bounds the looks at a pod after an end that the runtime has not told yet: they are endingPause
// apart, twice that, and so on, for 0.6 s together. A relist is then due.
const (
	endingLooks = 6
	endingPause = 10 * time.Millisecond
)

// ending is the end of a container or sandbox that the runtime is about to tell, but only to who asks.
type ending struct {
	pod   model.UID
	looks int
}

// listenExits notes the ends of containers until ctx ends.
func (o *observer) listenExits(ctx context.Context) {
	for n := 1; ; n++ {
		err := o.deps.Exits(ctx, o.noteExit)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, cri.ErrUnimplemented) {
			o.log.Info("the runtime tells of no ends of containers before it has cleaned up after them")
			return
		}
		o.log.Warn("listen to the runtime's exits, hearing of them later until it works again", "err", err)
		if !pause(ctx, reconcile.Backoff{Max: 5 * time.Second}.After(n)) {
			return
		}
	}
}

// noteExit has the pod of a container looked at that ended: at once if it is to be told early, else, where
// the runtime tells of no events, when the runtime will have cleaned up.
func (o *observer) noteExit(e cri.Exit) {
	snap := o.deps.Store.Snapshot()
	for uid, rt := range snap.Runtime.All() {
		c := rt.ByID(e.ContainerID)
		if c == nil && !sandboxReady(rt, e.ContainerID) {
			continue
		}
		pod, _ := snap.Pods.Get(uid)
		switch {
		case c != nil && c.State != model.ContainerRunning:
		case c != nil && !e.Unclear && toldEarly(pod, c.Name):
			if o.hasten(e, uid) {
				o.retry(uid)
			}
		case o.silent():
			o.awaitEnd(e.ContainerID, uid)
			o.retry(uid)
		}
		return
	}
}

func sandboxReady(rt *model.PodRuntime, id string) bool {
	return slices.ContainsFunc(rt.Sandboxes, func(s model.Sandbox) bool { return s.ID == id && s.Ready })
}

// silent: the runtime tells of no events.
func (o *observer) silent() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.noEvents
}

// awaitEnd has a pod looked at again until the runtime says that a container or sandbox has ended.
func (o *observer) awaitEnd(id string, uid model.UID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.endings[id] = ending{pod: uid}
}

// lookAgain is when a pod that was just looked at has to be looked at again because something of it has
// ended; 0 for not before somebody says so.
func (o *observer) lookAgain(uid model.UID) (after time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for id, e := range o.endings {
		if e.pod != uid {
			continue
		}
		if e.looks == endingLooks {
			delete(o.endings, id)
			continue
		}
		if next := endingPause << e.looks; after == 0 || next < after {
			after = next
		}
		e.looks++
		o.endings[id] = e
	}
	return after
}

// hasten notes an end, unless the agent has brought it about: whoever changes a pod so that a container is
// replaced may still look at what was true before, and on a kubelet has a second for it.
func (o *observer) hasten(e cri.Exit, uid model.UID) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, asked := o.asked[e.ContainerID]; asked {
		return false
	}
	o.exits[e.ContainerID] = earlyExit{e, uid}
	return true
}

// expectEnd notes that the agent stops a container.
func (o *observer) expectEnd(uid model.UID, id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked[id] = uid
}

// toldEarly: of this container nobody misses what the runtime has not done yet when it ends. It is
// started again whatever its exit code, so that nobody waits for its end to read its whole output, and
// neither its last words are taken from there.
func toldEarly(pod *corev1.Pod, container string) bool {
	if pod == nil || pod.DeletionTimestamp != nil || pod.Spec.RestartPolicy != corev1.RestartPolicyAlways {
		return false
	}
	i := slices.IndexFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == container })
	return i >= 0 && pod.Spec.Containers[i].RestartPolicy == nil &&
		pod.Spec.Containers[i].TerminationMessagePolicy != corev1.TerminationMessageFallbackToLogsOnError
}

// exited is how a container ended that the runtime still says runs.
func (o *observer) exited(id string) (earlyExit, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	e, ok := o.exits[id]
	return e, ok
}

// settleExits drops what was noted of containers of a pod that the runtime does not say any more that
// they run: what it says now counts, and may be more than was known. listed is nil for a pod that is gone.
func (o *observer) settleExits(uid model.UID, listed *model.PodRuntime) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for id, pod := range o.asked {
		if pod == uid && !stillRuns(listed, id) {
			delete(o.asked, id)
		}
	}
	for id, e := range o.endings {
		if e.pod == uid && !stillRuns(listed, id) {
			delete(o.endings, id)
		}
	}
	for id, e := range o.exits {
		if e.pod != uid {
			continue
		}
		var c *model.Container
		if listed != nil {
			c = listed.ByID(id)
		}
		if c == nil || c.State != model.ContainerRunning {
			delete(o.exits, id)
		}
		if c != nil && c.State != model.ContainerRunning {
			o.altered[id] = true
		}
	}
}

// stillRuns tells whether the runtime says that a container runs, or a sandbox is ready; listed is nil for a pod that is gone.
func stillRuns(listed *model.PodRuntime, id string) bool {
	if listed == nil {
		return false
	}
	c := listed.ByID(id)
	return c != nil && c.State == model.ContainerRunning || sandboxReady(listed, id)
}

// apply makes a container that the runtime says runs one that has exited.
func (e earlyExit) apply(c *model.Container) {
	if c.State != model.ContainerRunning {
		return
	}
	c.State, c.ExitCode, c.Finished = model.ContainerExited, e.Code, e.At
	if c.Reason = "Error"; e.Code == 0 { // the words of CRI's runtimes
		c.Reason = "Completed"
	}
}
