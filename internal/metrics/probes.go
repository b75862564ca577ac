package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
)

// Probes counts the outcomes of probes per container, as /metrics/probes has always done.
type Probes struct {
	total *prometheus.CounterVec
}

// Probes makes prober_probe_total.
func (r *Registry) Probes() *Probes {
	total := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "prober_probe_total",
		Help: "Probes by result.",
	}, []string{"probe_type", "result", "container", "pod", "namespace", "pod_uid"})
	r.reg.MustRegister(total)
	return &Probes{total: total}
}

// Probed names one probe that has run.
type Probed struct {
	// Type is Liveness, Readiness or Startup; Result is successful, failed or unknown.
	Type, Result                   string
	Namespace, Pod, UID, Container string
}

// Count notes one probe.
func (m *Probes) Count(p Probed) {
	m.total.WithLabelValues(p.Type, p.Result, p.Container, p.Pod, p.Namespace, p.UID).Inc()
}

// Forget drops what is kept of a pod that is gone.
func (m *Probes) Forget(podUID string) {
	m.total.DeletePartialMatch(prometheus.Labels{"pod_uid": podUID})
}
