package probe

import (
	"fmt"
	"maps"

	"nodelet/agent/probe/probeplan"
	"nodelet/internal/model"
	"nodelet/internal/store"
)

// Kept is what outlives the daemon of one probe.
type Kept struct {
	State probeplan.State
	// Verdict is the row of the table; nil for none yet.
	Verdict *model.Probe
	// Key says whose it is.
	Key model.ProbeKey
}

// resume goes on where the last process was killed.
func (p *Probes) resume() {
	p.mu.Lock()
	for _, k := range p.deps.Before {
		p.states[k.Key] = k.State.Resume()
	}
	p.mu.Unlock()
	p.deps.Probes.Commit(func(tx *store.Tx[model.ProbeKey, *model.Probe]) {
		for _, k := range p.deps.Before {
			if k.Verdict != nil {
				tx.Set(k.Key, k.Verdict)
			}
		}
		tx.Synced()
	})
	p.deps.Before = nil
}

// addKept adds the probes that an earlier process had of pods that are gone by now: they are to be forgotten.
func (p *Probes) addKept(keys map[model.ProbeKey]bool, snap *store.Snapshot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key := range maps.Keys(p.states) {
		if _, there := snap.Pods.Get(key.PodUID); !there {
			keys[key] = true
		}
	}
}

// remember notes the state of a probe, and keeps it where there is news but for the time of the next run.
func (p *Probes) remember(key model.ProbeKey, s probeplan.State, row *model.Probe) {
	p.mu.Lock()
	old, had := p.states[key]
	p.states[key] = s
	p.mu.Unlock()
	if standing, _ := p.deps.Store.Snapshot().Probes.Get(key); had && old.Alike(s) && row == standing {
		return
	}
	if err := p.deps.Keep.Put(keptKey(key), Kept{State: s, Verdict: row, Key: key}); err != nil {
		p.deps.Log.Warn("keep what is known of a probe, a restart now would forget it", "probe", key, "err", err)
	}
}

func (p *Probes) forget(key model.ProbeKey) {
	p.deps.Probes.Delete(key)
	p.deps.Metrics.Forget(key)
	if err := p.deps.Keep.Delete(keptKey(key)); err != nil {
		p.deps.Log.Warn("forget a probe", "probe", key, "err", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.states, key)
}

func keptKey(key model.ProbeKey) string {
	return fmt.Sprintf("%s/%s/%s", key.PodUID, key.Container, key.Type)
}
