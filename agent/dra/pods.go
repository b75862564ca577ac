package dra

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"nodelet/agent/dra/draplan"
	"nodelet/internal/model"
	"nodelet/internal/store"
)

// Reasons of events: upstream's for what keeps a pod from starting, our own for what keeps it from ending.
const (
	reasonPrepare   = "FailedPrepareDynamicResources"
	reasonUnprepare = "FailedUnprepareDynamicResources"
)

const (
	// quiet is how many refusals of the API server in a row are not told: its authorizer learns a moment
	// later than we do which pods are on this node.
	quiet = 6
	// soon is the wait after one.
	soon = 100 * time.Millisecond
)

// errSoon: nobody needs to know yet.
var errSoon = errors.New("not yet")

// Release says that nothing of a pod runs any more, nor will: its claims are given back.
func (m *Manager) Release(ctx context.Context, uid model.UID) {
	m.mu.Lock()
	was := m.released[uid]
	m.released[uid] = true
	m.mu.Unlock()
	if !was { // what fails is tried again by itself
		hint(ctx, m.pods, uid)
	}
}

// sync brings the claims of one pod up to date.
func (m *Manager) sync(ctx context.Context, uid model.UID, snap *store.Snapshot) (time.Duration, error) {
	pod, there := snap.Pods.Get(uid)
	var err error
	switch {
	case m.ended(snap, uid):
		err = m.release(ctx, pod, uid)
	case there && m.wanted(snap, pod):
		err = m.prepare(ctx, pod)
	}
	if ctx.Err() != nil {
		return 0, nil // interrupted: what is true now is looked at next
	}
	if errors.Is(err, errSoon) {
		return soon, nil
	}
	if err == nil && !there {
		m.forget(uid)
	}
	return 0, err
}

// wanted reports whether the containers of a pod are to be made.
func (m *Manager) wanted(snap *store.Snapshot, pod *corev1.Pod) bool {
	uid := model.UID(pod.UID)
	row, decided := snap.Allocations.Get(uid)
	_, evicted := snap.Evictions.Get(uid)
	return draplan.Any(pod) && pod.DeletionTimestamp == nil && decided && !row.Rejected && !evicted &&
		pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed
}

// ended reports whether nothing of a pod runs any more, nor will. Of a pod that is in the API the agent says so.
func (m *Manager) ended(snap *store.Snapshot, uid model.UID) bool {
	m.mu.Lock()
	released := m.released[uid]
	m.mu.Unlock()
	if released || !snap.Pods.Missing(uid) {
		return released
	}
	rt, ok := snap.Runtime.Get(uid)
	return !ok || !slices.ContainsFunc(rt.Sandboxes, func(s model.Sandbox) bool { return s.Ready }) &&
		!slices.ContainsFunc(rt.Containers, func(c model.Container) bool {
			return c.State == model.ContainerRunning || c.State == model.ContainerUnknown
		})
}

// prepare has the claims of a pod prepared.
func (m *Manager) prepare(ctx context.Context, pod *corev1.Pod) error {
	uid := model.UID(pod.UID)
	needs, err := draplan.Needs(pod)
	if err != nil {
		return m.tell(pod, uid, reasonPrepare, err)
	}
	if len(needs) == 0 {
		m.wait(uid, "")
		m.publish(uid)
		return nil
	}
	if row, _ := m.deps.Store.Snapshot().Prepared.Get(uid); draplan.Has(row, needs) {
		return nil
	}
	keys := make([]string, len(needs))
	for i, n := range needs {
		keys[i] = model.Key{Namespace: pod.Namespace, Name: n.Claim}.String()
	}
	unlock, err := m.claims.Acquire(ctx, keys...)
	if err != nil {
		return nil // the pod's end is looked at next
	}
	defer unlock()
	began := time.Now()
	err = m.prepareAll(ctx, pod, needs)
	if ctx.Err() != nil || errors.Is(err, errSoon) {
		return err
	}
	m.deps.Metrics.Operation("PrepareResources", time.Since(began), err != nil)
	return m.tell(pod, uid, reasonPrepare, err)
}

// prepareAll reads the claims, notes that they are the pod's, and calls the drivers; the locks are held.
func (m *Manager) prepareAll(ctx context.Context, pod *corev1.Pod, needs []draplan.Need) error {
	claims, err := m.read(ctx, pod, needs)
	if err != nil {
		return err
	}
	plan, err := draplan.Prepare(draplan.Facts{Pod: pod, Needs: needs, Claims: claims, Records: m.known(), Boot: m.cfg.Boot})
	if err != nil {
		return err
	}
	m.deps.Log.Debug("prepare claims", "pod", pod.Namespace+"/"+pod.Name, "plan", plan)
	for _, driver := range plan.Drivers {
		// Also of a driver that need not be called: without it, something is wrong with this node.
		if _, err := m.pluginOf(driver); err != nil {
			return err
		}
	}
	uid := model.UID(pod.UID)
	if err := m.keep(plan.Keep); err != nil {
		return err
	}
	m.publish(uid)
	got := map[model.Key][]model.PreparedDevice{}
	for _, call := range plan.Calls {
		devices, err := m.callPrepare(ctx, call)
		if err != nil {
			return err
		}
		for key, d := range devices {
			got[key] = append(got[key], d...)
		}
	}
	var done []draplan.Record
	for _, r := range plan.Keep {
		if !r.Prepared(m.cfg.Boot) {
			r.Boot, r.Devices = m.cfg.Boot, got[r.Key]
			done = append(done, r)
		}
	}
	if err := m.keep(done); err != nil {
		return err
	}
	m.count()
	m.wait(uid, "")
	m.publish(uid)
	return nil
}

// read gets the claims of a pod, as they are now.
func (m *Manager) read(ctx context.Context, pod *corev1.Pod, needs []draplan.Need) (map[string]*resourcev1.ResourceClaim, error) {
	uid := model.UID(pod.UID)
	out := map[string]*resourcev1.ResourceClaim{}
	for _, n := range needs {
		claim, err := m.deps.API.GetResourceClaim(ctx, model.Key{Namespace: pod.Namespace, Name: n.Claim})
		switch {
		case apierrors.IsNotFound(err):
		case apierrors.IsForbidden(err) && m.tried(uid) <= quiet:
			return nil, errSoon
		case err != nil:
			return nil, fmt.Errorf("fetch ResourceClaim %s: %w", n.Claim, err)
		default:
			out[n.Claim] = claim
		}
	}
	return out, nil
}

// release gives back what a pod has; pod is nil for one that is gone.
func (m *Manager) release(ctx context.Context, pod *corev1.Pod, uid model.UID) error {
	var keys []string
	for _, r := range m.recordsOf(uid) {
		keys = append(keys, r.Key.String())
	}
	if len(keys) == 0 {
		m.wait(uid, "")
		m.publish(uid)
		return nil
	}
	unlock, err := m.claims.Acquire(ctx, keys...)
	if err != nil {
		return nil
	}
	defer unlock()
	began := time.Now()
	err = m.releaseAll(ctx, uid)
	if ctx.Err() != nil {
		return err
	}
	m.deps.Metrics.Operation("UnprepareResources", time.Since(began), err != nil)
	return m.tell(pod, uid, reasonUnprepare, err)
}

// releaseAll has the drivers take back what they prepared; one that fails keeps no other from it. The locks are held.
func (m *Manager) releaseAll(ctx context.Context, uid model.UID) error {
	plan := draplan.Release(uid, m.recordsOf(uid))
	m.deps.Log.Debug("give claims back", "pod", uid, "plan", plan)
	if err := m.keep(plan.Keep); err != nil {
		return err
	}
	var errs []error
	left := map[model.Key]bool{}
	for _, call := range plan.Calls {
		for key, err := range m.callUnprepare(ctx, call) {
			left[key] = true
			errs = append(errs, err)
		}
	}
	for _, key := range plan.Drop {
		if !left[key] {
			errs = append(errs, m.drop(key))
		}
	}
	m.count()
	err := errors.Join(errs...)
	if err == nil {
		m.wait(uid, "")
	}
	m.publish(uid)
	return err
}

// tell makes an event of what keeps a pod, when it is news, and gives the error on to be tried again.
func (m *Manager) tell(pod *corev1.Pod, uid model.UID, reason string, err error) error {
	if err == nil {
		return nil
	}
	action := "prepare"
	if reason == reasonUnprepare {
		action = "unprepare"
	}
	news := m.wait(uid, err.Error())
	m.publish(uid)
	if pod != nil && news {
		m.deps.Events.Event(corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
			corev1.EventTypeWarning, reason, fmt.Sprintf("Failed to %s dynamic resources: %v", action, err))
	}
	return fmt.Errorf("%s dynamic resources: %w", action, err)
}
