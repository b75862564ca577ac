package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Probes counts the outcomes of probes per container, as /metrics/probes has always done.
type Probes struct {
	total    *prometheus.CounterVec
	duration *prometheus.HistogramVec

	mu sync.Mutex
	// names are the pods that probes were counted for: who forgets a probe knows only its pod's UID.
	names map[probeID]Probed
}

type probeID struct{ kind, uid, container string }

// Probes makes prober_probe_total and prober_probe_duration_seconds.
func (r *Registry) Probes() *Probes {
	m := &Probes{
		names: map[probeID]Probed{},
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "prober_probe_total",
			Help: "Probes by result.",
		}, []string{"probe_type", "result", "container", "pod", "namespace", "pod_uid"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "prober_probe_duration_seconds",
			Help:    "How long probes took that did not fail.",
			Buckets: defaultBuckets,
		}, []string{"probe_type", "container", "pod", "namespace"}),
	}
	r.reg.MustRegister(m.total, m.duration)
	return m
}

// Probed names one probe of a container.
type Probed struct {
	// Type is Liveness, Readiness or Startup.
	Type                           string
	Namespace, Pod, UID, Container string
}

// Count notes one run of a probe; result is successful, failed or unknown. As upstream, a run that
// failed says nothing about durations: most of those are time-outs.
func (m *Probes) Count(p Probed, result string, took time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.names[probeID{p.Type, p.UID, p.Container}] = p
	m.total.WithLabelValues(p.Type, result, p.Container, p.Pod, p.Namespace, p.UID).Inc()
	if result != "failed" {
		m.duration.WithLabelValues(p.Type, p.Container, p.Pod, p.Namespace).Observe(took.Seconds())
	}
}

// Forget drops what is kept of a probe that is no more.
func (m *Probes) Forget(kind, podUID, container string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := probeID{kind, podUID, container}
	p, ok := m.names[id]
	if !ok {
		return
	}
	delete(m.names, id)
	m.total.DeletePartialMatch(prometheus.Labels{"probe_type": kind, "container": container, "pod_uid": podUID})
	m.duration.DeleteLabelValues(kind, container, p.Pod, p.Namespace)
}
