package exclusive

import (
	"maps"
	"slices"
	"time"

	"nodelet/internal/model"
)

// judge takes what is known now of the health of devices into the grants that others see (KEP-4680).
func (m *Manager) judge() {
	m.mu.Lock()
	defer m.mu.Unlock()
	published := m.deps.Store.Snapshot().Grants
	for uid, g := range m.grants {
		if _, ok := published.Get(uid); !ok {
			continue // it is being served; what it gets is healthy
		}
		if next := m.judged(g); next != g {
			m.grants[uid] = next
			m.deps.Grants.Set(uid, next)
		}
	}
}

// judged is a grant with the health of its devices as it is known now, the same one where nothing
// changes; mu is held.
func (m *Manager) judged(g *model.Grant) *model.Grant {
	now := time.Now()
	for name, c := range g.Containers {
		for resource, devices := range c.Devices {
			p := m.plugins[resource]
			if p == nil {
				continue
			}
			healthy := p.healthy(now)
			broken := func(d model.Device) bool {
				_, known := p.devices[d.ID]
				return known && !healthy[d.ID] // of one that the plugin no longer names nothing bad is known
			}
			if !slices.ContainsFunc(devices, func(d model.Device) bool { return d.Unhealthy != broken(d) }) {
				continue
			}
			next := slices.Clone(devices)
			for i := range next {
				next[i].Unhealthy = broken(next[i])
			}
			one := g.Containers[name]
			one.Devices = maps.Clone(one.Devices)
			one.Devices[resource] = next
			g = with(g, name, one)
		}
	}
	return g
}
