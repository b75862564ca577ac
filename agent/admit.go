package agent

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"

	"nodelet/agent/admission"
	"nodelet/internal/model"
	"nodelet/internal/reconcile"
	"nodelet/internal/store"
)

// admitResync is how often put off resizes are looked at although nothing changed.
const admitResync = 3 * time.Minute

// admissions is the loop that decides which pods the node takes, and with
// which resources. It is the only writer of the table Allocations.
func (a *Agent) admissions() *reconcile.Loop {
	return &reconcile.Loop{
		Name: "admission", Store: a.deps.Store, Log: a.deps.Log, Health: a.deps.AdmitHealth,
		Ready: func(s *store.Snapshot) bool { return s.Runtime.Synced() },
		Relevant: func(prev, next *store.Snapshot) bool {
			return next.Pods.Last() != prev.Pods.Last() || next.Nodes.Last() != prev.Nodes.Last()
		},
		Sync:   a.admit,
		Resync: admitResync,
	}
}

func (a *Agent) admit(_ context.Context, prev, next *store.Snapshot) error {
	if prev != nil && !undecided(prev, next) && next.Nodes.Synced() == prev.Nodes.Synced() {
		return nil
	}
	d := admission.Decide(next, a.deps.Admission())
	if len(d.Rows)+len(d.Gone) > 0 {
		a.deps.Allocations.Commit(func(tx *store.Tx[model.UID, *model.Allocation]) {
			for _, row := range d.Rows {
				tx.Set(row.UID, row)
			}
			for _, uid := range d.Gone {
				tx.Delete(uid)
			}
		})
	}
	a.count(d)
	for _, n := range d.Notices {
		pod, ok := next.Pods.Get(n.UID)
		if !ok {
			continue
		}
		h := normal(n.Reason, n.Message)
		if n.Warning {
			h = warning(n.Reason, n.Message)
		}
		a.event(pod, "", h)
	}
	return nil
}

// count notes who was turned away, and who has to go.
func (a *Agent) count(d admission.Decision) {
	for _, row := range d.Rows {
		if row.Rejected && !row.Preempted {
			a.deps.Metrics.Rejected(row.Reason)
		}
	}
	for _, n := range d.Notices {
		if n.Reason == admission.Preempted {
			a.deps.Metrics.Preempted(string(n.Short))
		}
	}
}

// undecided: one of the pods that changed needs a decision, or has left room for others. Most changes are of a status only.
func undecided(prev, next *store.Snapshot) bool {
	if next.Nodes.Last() != prev.Nodes.Last() {
		return true
	}
	for d := range next.Pods.Since(prev.Pods) {
		pod, there := next.Pods.Get(d.Key)
		row, known := next.Allocations.Get(d.Key)
		switch {
		case !there, !known && !over(pod):
			return true
		case known && pod.DeletionTimestamp == nil && (row.Pending != nil || row.Generation != pod.Generation):
			return true
		case over(pod):
			if before, was := prev.Pods.Get(d.Key); was && !over(before) {
				return true
			}
		}
	}
	return false
}

func over(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}
