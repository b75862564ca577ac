package agent

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"nodelet/agent/podplan"
	"nodelet/internal/model"
	"nodelet/internal/podref"
	"nodelet/internal/reconcile"
	"nodelet/internal/store"
)

// resync is how often every pod is looked at although nothing changed.
const resync = 10 * time.Minute

// pods is the loop that brings each pod up to date.
func (a *Agent) pods() *reconcile.Keyed[model.UID] {
	return &reconcile.Keyed[model.UID]{
		Name: "pods", Store: a.deps.Store, Log: a.deps.Log, Health: a.deps.PodsHealth,
		Ready:     observed,
		Keys:      a.keys,
		Sync:      a.sync,
		Interrupt: interrupt,
		Resync:    resync,
		Hints:     a.wake,
	}
}

// observed: without the runtime everything would look like a new pod. The API's
// pods are not waited for: static pods start without any API server, and until
// the table is synced nobody is an orphan.
func observed(s *store.Snapshot) bool { return s.Runtime.Synced() }

// known: the API's pods are listed now and were not, so that all must be looked at, orphans too.
func known(prev, next *store.Snapshot) bool {
	return prev == nil || next.Pods.Synced() && !prev.Pods.Synced()
}

// keys yields the pods whose plan may differ between two snapshots.
func (a *Agent) keys(prev, next *store.Snapshot) iter.Seq[model.UID] {
	return func(yield func(model.UID) bool) {
		for uid := range touched(prev, next) {
			a.notes.edit(uid, func(*podNotes) {}) // seen
			if !yield(uid) {
				return
			}
		}
		if !known(prev, next) {
			return
		}
		// At start and at resync also those that only left something on disk.
		for _, uid := range slices.Concat(a.files.podsWithLogs(), a.deps.CgroupPods(), a.notes.all()) {
			if _, ok := next.Pods.Get(uid); !ok && !yield(uid) {
				return
			}
		}
	}
}

// touched yields the pods that one of the tables says something new of.
func touched(prev, next *store.Snapshot) iter.Seq[model.UID] {
	return func(yield func(model.UID) bool) {
		if known(prev, next) {
			prev = &store.Snapshot{}
		}
		seen := map[model.UID]bool{}
		emit := func(uid model.UID) bool {
			if seen[uid] {
				return true
			}
			seen[uid] = true
			return yield(uid)
		}
		for d := range next.Pods.Since(prev.Pods) {
			if !emit(d.Key) {
				return
			}
		}
		for d := range next.Runtime.Since(prev.Runtime) {
			if !emit(d.Key) {
				return
			}
		}
		for d := range next.Allocations.Since(prev.Allocations) {
			if !emit(d.Key) {
				return
			}
		}
		for d := range next.Volumes.Since(prev.Volumes) {
			if !emit(d.Key) {
				return
			}
		}
		for d := range next.Evictions.Since(prev.Evictions) {
			if !emit(d.Key) {
				return
			}
		}
		for d := range next.Grants.Since(prev.Grants) {
			if !emit(d.Key) {
				return
			}
		}
		for d := range next.Prepared.Since(prev.Prepared) {
			if !emit(d.Key) {
				return
			}
		}
		for d := range next.Probes.Since(prev.Probes) {
			if !emit(d.Key.PodUID) {
				return
			}
		}
		for uid := range following(prev, next) {
			if !emit(uid) {
				return
			}
		}
		for uid := range dependents(prev, next) {
			if !emit(uid) {
				return
			}
		}
	}
}

// following yields the pods that wait for others to make room, when something of those changed.
func following(prev, next *store.Snapshot) iter.Seq[model.UID] {
	return func(yield func(model.UID) bool) {
		if next.Runtime.Last() == prev.Runtime.Last() {
			return
		}
		changed := map[model.UID]bool{}
		for d := range next.Runtime.Since(prev.Runtime) {
			changed[d.Key] = true
		}
		for uid, row := range next.Allocations.All() {
			if slices.ContainsFunc(row.After, func(other model.UID) bool { return changed[other] }) && !yield(uid) {
				return
			}
		}
	}
}

// dependents yields the pods that use an image, ConfigMap or Secret that
// changed, and all pods once the Services are known, or what is prepared for them.
func dependents(prev, next *store.Snapshot) iter.Seq[model.UID] {
	return func(yield func(model.UID) bool) {
		images := map[string]bool{}
		for d := range next.Images.Since(prev.Images) {
			images[string(d.Key)] = true
		}
		configs := map[model.ConfigKey]bool{}
		for d := range next.Configs.Since(prev.Configs) {
			configs[d.Key] = true
		}
		all := next.Services.Synced() && !prev.Services.Synced() || next.Prepared.Synced() && !prev.Prepared.Synced()
		classes := next.Classes.Last() != prev.Classes.Last()
		if len(images) == 0 && len(configs) == 0 && !all && !classes {
			return
		}
		for uid, pod := range next.Pods.All() {
			if (all || classes && pod.Spec.RuntimeClassName != nil || usesImage(pod, images) || usesConfig(pod, configs)) && !yield(uid) {
				return
			}
		}
	}
}

func usesConfig(pod *corev1.Pod, changed map[model.ConfigKey]bool) bool {
	return len(changed) > 0 && slices.ContainsFunc(podref.References(pod), func(k model.ConfigKey) bool { return changed[k] })
}

func usesImage(pod *corev1.Pod, changed map[string]bool) bool {
	for i := range pod.Spec.InitContainers {
		if changed[pod.Spec.InitContainers[i].Image] {
			return true
		}
	}
	for i := range pod.Spec.Containers {
		if changed[pod.Spec.Containers[i].Image] {
			return true
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if changed[pod.Spec.EphemeralContainers[i].Image] {
			return true
		}
	}
	for i := range pod.Spec.Volumes {
		if v := pod.Spec.Volumes[i].Image; v != nil && changed[v.Reference] {
			return true
		}
	}
	return false
}

// interrupt cancels what is under way for a pod that is to end now: a sandbox
// that takes minutes to come up must not hold up its own removal.
func interrupt(uid model.UID, running, next *store.Snapshot) bool {
	before, was := running.Pods.Get(uid)
	after, is := next.Pods.Get(uid)
	if !was {
		return false
	}
	return !is || (before.DeletionTimestamp == nil && after.DeletionTimestamp != nil)
}

// facts gathers all that a plan for one pod depends on.
func (a *Agent) facts(uid model.UID, snap *store.Snapshot, now time.Time) podplan.Facts {
	if pod, ok := snap.Pods.Get(uid); ok && pod.DeletionTimestamp != nil {
		a.notes.stopping(uid, podplan.Grace(pod), now)
	}
	return podplan.Facts{
		UID: uid, World: snap, Settings: &a.cfg.Settings,
		Node: a.node(), Notes: a.notes.of(uid),
	}
}

// node is what is known of this node, from wiring and from the runtime.
func (a *Agent) node() podplan.Node {
	node := a.deps.Node()
	if r := a.runtime.Load(); r != nil {
		node.RuntimeName, node.Handlers = r.name, r.handlers
	}
	node.DNS = a.resolv.read()
	return node
}

// sync does for one pod what can be done now.
func (a *Agent) sync(ctx context.Context, uid model.UID, snap *store.Snapshot) (time.Duration, error) {
	began := time.Now()
	if a.observer.doubtful(uid) {
		if err := a.observer.pod(ctx, uid); err != nil {
			return 0, fmt.Errorf("observe pod %s: %w", uid, err)
		}
		snap = a.deps.Store.Snapshot()
	}
	f := a.facts(uid, snap, began)
	plan := podplan.Make(f, began)
	pod, _ := snap.Pods.Get(uid)
	rt, _ := snap.Runtime.Get(uid)
	a.notes.prune(uid, rt)
	a.noteFirst(snap, uid, began)
	if plan.Stopping {
		a.notes.stopping(uid, plan.Grace, began)
	} else if plan.Status != nil {
		a.notes.goesOn(uid)
	}
	a.tell(pod, plan.Problems)
	a.tellResize(pod, plan.Status)
	a.noteRunning(snap, pod, plan.Status, began)
	again, err := a.execute(ctx, job{uid: uid, pod: pod, rt: rt, plan: plan})
	if pod != nil && a.notes.changed(uid) {
		a.reports.ask(ctx, uid)
	}
	if len(plan.Actions) > 0 {
		a.deps.Metrics.Synced(operation(pod, rt), time.Since(began))
	}
	if err != nil || again {
		return time.Millisecond, err // the failure is noted: plan anew around it
	}
	if plan.Wake.IsZero() {
		return 0, nil
	}
	return max(time.Until(plan.Wake), time.Millisecond), nil
}

// operation is the label of a round in metrics.
func operation(pod *corev1.Pod, rt *model.PodRuntime) string {
	switch {
	case pod == nil || pod.DeletionTimestamp != nil:
		return "kill"
	case rt == nil:
		return "create"
	}
	return "sync"
}

// tell makes events of the problems that are new.
func (a *Agent) tell(pod *corev1.Pod, problems []podplan.Problem) {
	if pod == nil {
		return
	}
	for _, p := range a.notes.news(model.UID(pod.UID), problems) {
		a.event(pod, p.Container, warning(p.Reason, p.Message))
	}
}
