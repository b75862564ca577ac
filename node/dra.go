package node

import (
	"strconv"
	"time"

	"nodelet/agent/dra"
)

// buildDRA makes the part that has the ResourceClaims of pods prepared.
func (p *agentParts) buildDRA() error {
	p.dra = dra.New(dra.Config{NodeName: p.n.cfg.NodeName, Boot: p.kept.boot}, dra.Deps{
		Store: p.n.store, Prepared: p.n.writers.Prepared, API: p.n.client, Events: p.events,
		Records: p.kept.claims, RecordsBefore: p.kept.claimsBefore, Drivers: p.kept.draDrivers, DriversBefore: p.kept.draDriversBefore,
		Metrics: newDRAMetrics(p.n), Log: p.n.deps.Log,
		PodsHealth: p.n.watchHealth("claims of pods"), PluginsHealth: p.n.watchHealth("DRA plugins"),
		WatchHealth: p.n.watchHealth("DRA device health"), DriversHealth: p.n.watchHealth("DRA drivers"),
	})
	return nil
}

// draMetrics are upstream's of dynamic resources.
type draMetrics struct {
	operation, called func(time.Duration, ...string)
	inUse             func(float64, ...string)
}

func newDRAMetrics(n *Node) draMetrics {
	// Upstream's bounds: 15 of equal ratio from 0.1 s to 40 s, which is near the limit of a call.
	buckets := []float64{.1, .1534, .2354, .3611, .5539, .8498, 1.3037, 2, 3.0683, 4.7071, 7.2213, 11.0784, 16.9956, 26.0735, 40}
	return draMetrics{
		operation: n.metrics.Histogram("dra_operations_duration_seconds", "How long it took to prepare or unprepare all ResourceClaims of a pod.", buckets, "operation_name", "is_error"),
		called:    n.metrics.Histogram("dra_grpc_operations_duration_seconds", "How long calls to DRA drivers took.", buckets, "driver_name", "method_name", "grpc_status_code"),
		inUse:     n.metrics.Gauge("dra_resource_claims_in_use", "ResourceClaims that are prepared on this node, by driver; <any> counts each once.", "driver_name"),
	}
}

// Operation implements dra.Metrics.
func (m draMetrics) Operation(name string, took time.Duration, failed bool) {
	m.operation(took, name, strconv.FormatBool(failed))
}

// Called implements dra.Metrics.
func (m draMetrics) Called(driver, method, code string, took time.Duration) {
	m.called(took, driver, method, code)
}

// InUse implements dra.Metrics.
func (m draMetrics) InUse(driver string, claims int) { m.inUse(float64(claims), driver) }
