package dra

import (
	"fmt"
	"maps"
	"slices"

	"nodelet/agent/dra/draplan"
	"nodelet/internal/model"
)

// known are all records. Those of claims whose lock is held do not change meanwhile.
func (m *Manager) known() map[model.Key]draplan.Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.records)
}

// recordsOf are those that name a pod, by key.
func (m *Manager) recordsOf(uid model.UID) (all []draplan.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.records {
		if slices.Contains(r.Pods, uid) {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b draplan.Record) int { return a.Key.Compare(b.Key) })
	return all
}

// keep writes records down and then takes them for true.
func (m *Manager) keep(records []draplan.Record) error {
	for _, r := range records {
		if err := m.deps.Records.Put(r.Key.String(), r); err != nil {
			return fmt.Errorf("keep that ResourceClaim %s is in use: %w", r.Key, err)
		}
		m.mu.Lock()
		m.records[r.Key] = r
		m.mu.Unlock()
	}
	return nil
}

func (m *Manager) drop(key model.Key) error {
	if err := m.deps.Records.Delete(key.String()); err != nil {
		return fmt.Errorf("keep that ResourceClaim %s is no longer in use: %w", key, err)
	}
	m.mu.Lock()
	delete(m.records, key)
	m.mu.Unlock()
	return nil
}

// wait notes why a pod waits, empty: it does not; and tells whether that is news.
func (m *Manager) wait(uid model.UID, why string) (news bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	news = m.waits[uid] != why
	if why == "" {
		delete(m.waits, uid)
		delete(m.tries, uid)
	} else {
		m.waits[uid] = why
	}
	return news
}

// tried counts one more look in vain.
func (m *Manager) tried(uid model.UID) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tries[uid]++
	return m.tries[uid]
}

// forget drops what is known of a pod that is gone.
func (m *Manager) forget(uid model.UID) {
	if len(m.recordsOf(uid)) > 0 {
		return
	}
	m.wait(uid, "")
	m.mu.Lock()
	delete(m.released, uid)
	m.mu.Unlock()
	m.publish(uid)
}

// publish tells others what a pod has.
func (m *Manager) publish(uid model.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if row := m.row(uid); row != nil {
		m.deps.Prepared.Set(uid, row)
	} else {
		m.deps.Prepared.Delete(uid)
	}
}

// rows are those of all pods that records name.
func (m *Manager) rows() map[model.UID]*model.PodDevices {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := map[model.UID]*model.PodDevices{}
	for _, r := range m.records {
		for _, uid := range r.Pods {
			if all[uid] == nil {
				all[uid] = m.row(uid)
			}
		}
	}
	return all
}

// row is what a pod has, nil if there is nothing to say; mu is held.
func (m *Manager) row(uid model.UID) *model.PodDevices {
	row := draplan.Row(uid, slices.Collect(maps.Values(m.records)), m.cfg.Boot)
	row.Message = m.waits[uid]
	if row.Message != "" {
		row.Ready = false
	}
	if !row.Held() && row.Message == "" {
		return nil
	}
	for _, c := range row.Claims {
		for i := range c.Devices {
			h := m.healthOf(&c.Devices[i])
			c.Devices[i].Health, c.Devices[i].Message = h.Health, h.Message
		}
	}
	return row
}

// count tells how many claims are prepared, by driver and in all.
func (m *Manager) count() {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := map[string]int{anyDriver: 0}
	for _, r := range m.records {
		if !r.Prepared(m.cfg.Boot) {
			continue
		}
		now[anyDriver]++
		for _, d := range r.Drivers {
			now[d]++
		}
	}
	for d := range m.counted {
		if _, ok := now[d]; !ok {
			now[d] = 0
		}
	}
	for d, n := range now {
		if last, ok := m.counted[d]; !ok || last != n {
			m.deps.Metrics.InUse(d, n)
		}
	}
	m.counted = now
}

// anyDriver is upstream's label for the claims of all drivers.
const anyDriver = "<any>"
