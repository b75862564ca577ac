package dra

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"nodelet/internal/store"
)

// drivers are those to look after from the start; the empty name stands for all that is published of this node.
func (m *Manager) drivers(prev, _ *store.Snapshot) iter.Seq[string] {
	if prev != nil {
		return func(func(string) bool) {}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Values(append(slices.Collect(maps.Keys(m.lost)), ""))
}

// judge notes since when a driver has no plugin that answers; mu is held.
func (m *Manager) judge(driver string) {
	if slices.ContainsFunc(m.registered[driver], func(p *plugin) bool { return p.answers }) {
		delete(m.lost, driver)
	} else if m.lost[driver].IsZero() {
		m.lost[driver] = time.Now()
	}
}

// inquire looks after one driver.
func (m *Manager) inquire(ctx context.Context, driver string, _ *store.Snapshot) (time.Duration, error) {
	old := m.expire(driver)
	again, err := m.wipe(ctx, driver)
	if again == 0 || old > 0 && old < again {
		again = old
	}
	return again, err
}

// wipe removes what a driver publishes of this node when it has been away for too long, and once after
// the machine's start what all drivers did before: else pods would be sent here to wait for it.
func (m *Manager) wipe(ctx context.Context, driver string) (time.Duration, error) {
	m.mu.Lock()
	since, lost := m.lost[driver]
	done := m.wiped
	m.mu.Unlock()
	switch {
	case driver == "" && done, driver != "" && !lost:
		return 0, nil
	case driver != "" && time.Since(since) < m.cfg.Grace:
		return m.cfg.Grace - time.Since(since), nil
	}
	err := m.deps.API.DeleteResourceSlices(ctx, m.cfg.NodeName, driver)
	if err != nil && !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("delete the ResourceSlices of this node: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if driver == "" {
		m.wiped = true
		return 0, m.deps.Drivers.Put("", KeptDriver{Seen: true})
	}
	m.deps.Log.Warn("DRA driver is gone, what it published of this node is removed", "driver", driver, "for", time.Since(since).Round(time.Second))
	if m.lost[driver].Equal(since) && len(m.registered[driver]) == 0 {
		delete(m.lost, driver)
		return 0, m.deps.Drivers.Delete(driver)
	}
	return 0, nil
}
