package agent

import (
	"log/slog"
	"maps"
	"sync"
	"time"

	"nodelet/agent/podplan"
	"nodelet/internal/keep"
	"nodelet/internal/model"
)

// notes is what this process remembers of pods: see podplan.Notes. All of it
// may be lost at any time; what a stop has come to is kept for the next process.
type notes struct {
	keep keep.Keeper[KeptStop]
	log  *slog.Logger

	mu   sync.Mutex
	pods map[model.UID]*podNotes
}

type podNotes struct {
	podplan.Notes
	// grace is the grace period that Stopping began with.
	grace time.Duration
	// told are the problems that have become events.
	told map[podplan.Problem]bool
	// fresh: something that shows in the status was noted since the last report was asked for.
	fresh bool
	beginning
	// resizing: the status told of a resize under way; nil: not looked at yet.
	resizing *bool
}

func newNotes(deps Deps) *notes {
	n := &notes{keep: deps.Keep, log: deps.Log, pods: map[model.UID]*podNotes{}}
	for uid, k := range deps.Before {
		n.edit(model.UID(uid), k.restore)
	}
	return n
}

// edit changes the notes of one pod.
func (n *notes) edit(uid model.UID, change func(*podNotes)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.pods[uid]
	if p == nil {
		p = &podNotes{beginning: beginning{seen: time.Now()}, told: map[podplan.Problem]bool{}}
		p.Containers = map[string]podplan.ContainerNote{}
		p.Failures = map[string]podplan.Failure{}
		n.pods[uid] = p
	}
	change(p)
}

// of gives a copy of the notes of one pod.
func (n *notes) of(uid model.UID) podplan.Notes {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.pods[uid]
	if p == nil {
		return podplan.Notes{}
	}
	return podplan.Notes{
		Stopping: p.Stopping, Containers: maps.Clone(p.Containers), Failures: maps.Clone(p.Failures),
		Cgroup: p.Cgroup, Resize: p.Resize,
	}
}

func (n *notes) forget(uid model.UID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.pods, uid)
	if err := n.keep.Delete(uid.String()); err != nil {
		n.log.Warn("forget what was kept of a pod", "pod", uid, "err", err)
	}
}

// stopping notes that a pod is being stopped with that grace period. A shorter
// one counts from when it was asked for.
func (n *notes) stopping(uid model.UID, grace time.Duration, now time.Time) {
	n.edit(uid, func(p *podNotes) {
		if p.Stopping.IsZero() || grace < p.grace {
			p.Stopping, p.grace = now, grace
			n.keepStop(uid, p)
		}
	})
}

// goesOn notes that a pod is not being stopped, or no longer.
func (n *notes) goesOn(uid model.UID) {
	n.edit(uid, func(p *podNotes) {
		if !p.Stopping.IsZero() {
			p.Stopping, p.grace = time.Time{}, 0
			n.keepStop(uid, p)
		}
	})
}

// container changes what is noted of one container.
func (n *notes) container(uid model.UID, id string, change func(*podplan.ContainerNote)) {
	n.edit(uid, func(p *podNotes) {
		old := p.Containers[id]
		c := old
		change(&c)
		p.Containers[id] = c
		p.fresh = p.fresh || c != old
		if c.Stopping != old.Stopping || c.PreStopDone != old.PreStopDone {
			n.keepStop(uid, p)
		}
	})
}

// failed notes that a call for a container ("" is the sandbox) failed.
func (n *notes) failed(uid model.UID, container string, f podplan.Failure, reserved bool) {
	n.edit(uid, func(p *podNotes) {
		old := p.Failures[container]
		f.Count = old.Count + 1
		if reserved {
			f.Reserved = old.Reserved + 1
		}
		p.Failures[container] = f
		p.fresh = true
	})
}

func (n *notes) succeeded(uid model.UID, container string) {
	n.edit(uid, func(p *podNotes) {
		_, failed := p.Failures[container]
		p.fresh = p.fresh || failed
		delete(p.Failures, container)
	})
}

// changed tells, once, whether something that shows in the status was noted.
func (n *notes) changed(uid model.UID) (fresh bool) {
	n.edit(uid, func(p *podNotes) { fresh, p.fresh = p.fresh, false })
	return fresh
}

// news gives the problems that were not there last time, and remembers all.
func (n *notes) news(uid model.UID, problems []podplan.Problem) (fresh []podplan.Problem) {
	n.edit(uid, func(p *podNotes) {
		now := map[podplan.Problem]bool{}
		for _, x := range problems {
			if !p.told[x] && !now[x] {
				fresh = append(fresh, x)
			}
			now[x] = true
		}
		p.told = now
	})
	return fresh
}

// prune drops what is noted of containers that are gone.
func (n *notes) prune(uid model.UID, rt *model.PodRuntime) {
	n.edit(uid, func(p *podNotes) {
		for id := range p.Containers {
			if rt == nil || rt.ByID(id) == nil {
				delete(p.Containers, id)
			}
		}
	})
}
