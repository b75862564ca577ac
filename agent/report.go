package agent

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"nodelet/agent/podplan"
	"nodelet/agent/podstatus"
	"nodelet/agent/timeline"
	"nodelet/internal/model"
	"nodelet/internal/reconcile"
	"nodelet/internal/store"
)

// parallelReports bounds the status writes under way at a time.
const parallelReports = 16

// calm is how long the status of a pod that is just starting may wait: mostly
// the pod runs by then, and one write says all. Disk and API server meanwhile
// work for what the pod waits for. Pods that start together take longer and
// wait longer, so much for each of them, up to calmLimit.
const (
	calm      = 200 * time.Millisecond
	calmLimit = 5 * time.Second
)

// reporter writes the status of pods to the API where it differs.
type reporter struct {
	agent *Agent
	hints chan model.UID

	mu   sync.Mutex
	sent map[model.UID]report
}

// report is the last status that was sent for a pod, and the version of the pod it was made from:
// until the watch brings a newer one, the same status need not be sent again.
type report struct {
	version string
	status  corev1.PodStatus
	// due is since when a status was due that has not been sent.
	due time.Time
}

func newReporter(a *Agent) *reporter {
	return &reporter{agent: a, hints: make(chan model.UID), sent: map[model.UID]report{}}
}

// ask has a status reported that depends on what is not in the store: the notes.
func (r *reporter) ask(ctx context.Context, uid model.UID) {
	select {
	case r.hints <- uid:
	case <-ctx.Done():
	}
}

// run blocks until ctx ends. It is a loop of its own, beside that of the pods:
// what is true must be told while something slow is being done about it.
func (r *reporter) run(ctx context.Context) error {
	loop := &reconcile.Keyed[model.UID]{
		Name: "report", Store: r.agent.deps.Store, Log: r.agent.deps.Log, Health: r.agent.deps.ReportHealth,
		Ready: observed,
		Keys: func(prev, next *store.Snapshot) iter.Seq[model.UID] {
			return touched(prev, next)
		},
		Sync:     r.sync,
		Hints:    r.hints,
		Resync:   resync,
		Parallel: parallelReports,
	}
	return loop.Run(ctx)
}

// sync writes the status of one pod if it is not what the API has.
func (r *reporter) sync(ctx context.Context, uid model.UID, snap *store.Snapshot) (time.Duration, error) {
	pod, ok := snap.Pods.Get(uid)
	if !ok {
		r.forget(uid)
		return 0, nil
	}
	if r.agent.observer.unknown(uid) {
		return 0, nil // its first observation wakes this loop
	}
	now := time.Now()
	r.agent.deps.Timeline.Note(pod, now, timeline.Steps(snap, uid)...)
	plan := podplan.Make(r.agent.facts(uid, snap, now), now)
	if plan.Status == nil {
		return 0, nil
	}
	again := time.Duration(0)
	if !plan.Wake.IsZero() {
		again = max(time.Until(plan.Wake), time.Millisecond)
	}
	if podstatus.Alike(&pod.Status, plan.Status) || r.isSent(pod, plan.Status) {
		r.settled(uid)
		return again, nil
	}
	due := r.due(uid, now)
	if wait := r.patience() - now.Sub(due); wait > 0 && starting(plan.Status) {
		return sooner(wait, again), nil
	}
	patch, err := podstatus.Patch(pod, plan.Status)
	if err != nil {
		return 0, err
	}
	_, err = r.agent.deps.API.PatchPodStatus(ctx, podKey(pod), uid, patch)
	switch {
	case absent(err), apierrors.IsConflict(err):
		// The pod is gone or is another one: the watch will tell.
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("write status of pod %s: %w", podKey(pod), err)
	}
	r.agent.deps.Metrics.StatusWritten(time.Since(due))
	r.agent.deps.Timeline.Note(pod, time.Now(), timeline.Status(plan.Status))
	r.note(uid, report{version: pod.ResourceVersion, status: *plan.Status})
	return again, nil
}

// starting reports whether a status says only that things take their course
// until the pod runs.
func starting(s *corev1.PodStatus) bool {
	return s.Phase == corev1.PodPending && s.Reason == "" &&
		!slices.ContainsFunc(s.InitContainerStatuses, begun) && !slices.ContainsFunc(s.ContainerStatuses, begun)
}

// begun: there is more to say of a container than that it is being made.
func begun(c corev1.ContainerStatus) bool {
	w := c.State.Waiting
	return w == nil || w.Reason != podplan.ReasonContainerCreating && w.Reason != podplan.ReasonPodInitializing
}

// sooner is the shorter of two waits, of which 0 is none.
func sooner(a, b time.Duration) time.Duration {
	if b == 0 || a < b {
		return a
	}
	return b
}

func absent(err error) bool { return apierrors.IsNotFound(err) }

func (r *reporter) isSent(pod *corev1.Pod, status *corev1.PodStatus) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	last, ok := r.sent[model.UID(pod.UID)]
	return ok && last.version == pod.ResourceVersion && last.version != "" && podstatus.Alike(&last.status, status)
}

// due notes since when a status waits to be written.
func (r *reporter) due(uid model.UID, now time.Time) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.sent[uid]
	if last.due.IsZero() {
		last.due = now
		r.sent[uid] = last
	}
	return last.due
}

// patience is how long a status may wait that says only that a pod is starting, among as many as wait now.
func (r *reporter) patience() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	waiting := 0
	for _, last := range r.sent {
		if !last.due.IsZero() {
			waiting++
		}
	}
	return min(time.Duration(waiting)*calm, calmLimit)
}

// settled: nothing is due.
func (r *reporter) settled(uid model.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last, ok := r.sent[uid]; ok && !last.due.IsZero() {
		last.due = time.Time{}
		r.sent[uid] = last
	}
}

func (r *reporter) note(uid model.UID, sent report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent[uid] = sent
}

func (r *reporter) forget(uid model.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sent, uid)
}
