package node

import (
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"

	"nodelet/agent/handler"
	"nodelet/internal/metrics"
	"nodelet/internal/model"
)

// probeMetrics counts probes in a set of their own, served at /metrics/probes, in upstream's words.
type probeMetrics struct {
	registry *metrics.Registry
	probes   *metrics.Probes
}

func newProbeMetrics() *probeMetrics {
	r := metrics.New()
	return &probeMetrics{registry: r, probes: r.Probes()}
}

func (m *probeMetrics) handler() http.Handler { return m.registry.Handler() }

var (
	probeTypes    = [...]string{model.Startup: "Startup", model.Liveness: "Liveness", model.Readiness: "Readiness"}
	probeOutcomes = [...]string{handler.Success: "successful", handler.Failure: "failed", handler.Unknown: "unknown"}
)

// Ran counts one run of a probe.
func (m *probeMetrics) Ran(pod *corev1.Pod, key model.ProbeKey, outcome handler.Outcome, took time.Duration) {
	m.probes.Count(metrics.Probed{
		Type: probeTypes[key.Type], Namespace: pod.Namespace, Pod: pod.Name, UID: string(pod.UID), Container: key.Container,
	}, probeOutcomes[outcome], took)
}

// Forget drops the counts of a probe that is no more.
func (m *probeMetrics) Forget(key model.ProbeKey) {
	m.probes.Forget(probeTypes[key.Type], string(key.PodUID), key.Container)
}
