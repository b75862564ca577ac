package probe

import (
	"iter"

	"nodelet/agent/probe/probeplan"
	"nodelet/internal/model"
	"nodelet/internal/store"
)

// gather collects the facts about one probe from one snapshot.
func gather(key model.ProbeKey, snap *store.Snapshot) probeplan.Facts {
	f := probeplan.Facts{Key: key}
	f.Pod, _ = snap.Pods.Get(key.PodUID)
	f.Runtime, _ = snap.Runtime.Get(key.PodUID)
	f.Standing, _ = snap.Probes.Get(key)
	f.Startup, _ = snap.Probes.Get(model.ProbeKey{PodUID: key.PodUID, Container: key.Container, Type: model.Startup})
	return f
}

// keys yields the probes of pods that changed, in the API or in the runtime,
// those that waited for a startup probe, and those that are no more.
func (p *Probes) keys(prev, next *store.Snapshot) iter.Seq[model.ProbeKey] {
	first := prev == nil || next.Pods.Synced() && !prev.Pods.Synced()
	if first {
		prev = &store.Snapshot{}
	}
	pods := map[model.UID]bool{}
	for d := range next.Pods.Since(prev.Pods) {
		pods[d.Key] = true
	}
	for d := range next.Runtime.Since(prev.Runtime) {
		pods[d.Key] = true
	}
	for d := range next.Probes.Since(prev.Probes) {
		if d.Key.Type == model.Startup {
			pods[d.Key.PodUID] = true
		}
	}
	return func(yield func(model.ProbeKey) bool) {
		keys := p.of(pods, next)
		if first {
			p.addKept(keys, next)
		}
		for key := range keys {
			if !yield(key) {
				return
			}
		}
	}
}

// of gives the probes of these pods by their specs, and those that are remembered.
func (p *Probes) of(pods map[model.UID]bool, snap *store.Snapshot) map[model.ProbeKey]bool {
	keys := map[model.ProbeKey]bool{}
	if len(pods) == 0 {
		return keys
	}
	for uid := range pods {
		if pod, ok := snap.Pods.Get(uid); ok {
			for _, key := range probeplan.Keys(pod) {
				keys[key] = true
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for key := range p.states {
		if pods[key.PodUID] {
			keys[key] = true
		}
	}
	return keys
}

// pointless reports whether a run that is under way has lost its container.
func pointless(key model.ProbeKey, running, next *store.Snapshot) bool {
	if _, ok := next.Pods.Get(key.PodUID); !ok {
		return true
	}
	before, _ := running.Runtime.Get(key.PodUID)
	now, _ := next.Runtime.Get(key.PodUID)
	if before == nil || now == nil {
		return now == nil
	}
	old, c := before.Latest(key.Container), now.Latest(key.Container)
	return c == nil || old != nil && c.ID != old.ID || c.State != model.ContainerRunning
}
