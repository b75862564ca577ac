package evict

import (
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"

	"nodelet/agent/evict/evictplan"
	"nodelet/internal/keep"
	"nodelet/internal/model"
)

// Kept is what outlives the daemon: without it a condition would go before its time, and a pod that is
// on its way out would be started again.
type Kept struct {
	// State and Conditions are those of the node; Row is the end of one pod.
	State      evictplan.State
	Conditions []corev1.NodeConditionType `json:",omitempty"`
	Row        *model.Eviction            `json:",omitempty"`
}

// past is a state that was kept as one of this process.
func past(s evictplan.State, now time.Time) evictplan.State {
	s.Since, s.Pressure = maps.Clone(s.Since), maps.Clone(s.Pressure)
	for key, t := range s.Since {
		s.Since[key] = keep.Past(t, now)
	}
	for key, t := range s.Pressure {
		s.Pressure[key] = keep.Past(t, now)
	}
	return s
}

const nodeKey = "node"

func podKey(uid model.UID) string { return "pod/" + uid.String() }

// rowsBefore are the pods that the last process sent away.
func (e *Evictor) rowsBefore() map[model.UID]*model.Eviction {
	rows := map[model.UID]*model.Eviction{}
	for _, k := range e.deps.Before {
		if k.Row != nil {
			rows[k.Row.UID] = k.Row
		}
	}
	return rows
}

func (e *Evictor) keep(key string, k Kept) {
	if err := e.deps.Keep.Put(key, k); err != nil {
		e.deps.Log.Warn("keep what was decided about evictions, a restart now would forget it", "what", key, "err", err)
	}
}

func (e *Evictor) drop(uid model.UID) {
	if err := e.deps.Keep.Delete(podKey(uid)); err != nil {
		e.deps.Log.Warn("forget an eviction", "pod", uid, "err", err)
	}
}
