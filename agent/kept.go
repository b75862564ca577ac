package agent

import (
	"maps"
	"slices"
	"time"

	"nodelet/agent/podplan"
	"nodelet/internal/keep"
	"nodelet/internal/model"
)

// KeptStop is what outlives the daemon of the stop of a pod: without it a grace
// period would start anew, and a preStop hook run again.
type KeptStop struct {
	// Stopping is since when the pod as a whole is being stopped, within Grace.
	Stopping time.Time
	Grace    time.Duration
	// Containers that are being stopped, by id.
	Containers map[string]KeptContainer
}

// KeptContainer is the part of a KeptStop about one container.
type KeptContainer struct {
	Stopping    time.Time
	PreStopDone bool
}

// restore puts what was kept into the notes of a pod.
func (k KeptStop) restore(p *podNotes) {
	now := time.Now()
	p.Stopping, p.grace = keep.Past(k.Stopping, now), k.Grace
	for id, c := range k.Containers {
		p.Containers[id] = podplan.ContainerNote{Stopping: keep.Past(c.Stopping, now), PreStopDone: c.PreStopDone}
	}
}

// keepStop keeps how far the stop of a pod is; mu is held.
func (n *notes) keepStop(uid model.UID, p *podNotes) {
	k := KeptStop{Stopping: p.Stopping, Grace: p.grace, Containers: map[string]KeptContainer{}}
	for id, c := range p.Containers {
		if !c.Stopping.IsZero() {
			k.Containers[id] = KeptContainer{Stopping: c.Stopping, PreStopDone: c.PreStopDone}
		}
	}
	if err := n.keep.Put(uid.String(), k); err != nil {
		n.log.Warn("keep how far the stop of a pod is, a restart now would begin it anew", "pod", uid, "err", err)
	}
}

// all are the pods of which there are notes.
func (n *notes) all() []model.UID {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Collect(maps.Keys(n.pods))
}
