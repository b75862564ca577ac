package metrics

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Registry is one set of metrics, served at one path.
type Registry struct {
	reg *prometheus.Registry
}

// New makes an empty set.
func New() *Registry {
	return &Registry{reg: prometheus.NewRegistry()}
}

// Build is what the program says of itself.
type Build struct {
	Version   string
	Commit    string
	GoVersion string
	Platform  string
}

// NewProcess makes the set of a program: process_*, go_* and kubernetes_build_info.
func NewProcess(b Build) *Registry {
	r := New()
	r.reg.MustRegister(
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewGoCollector(),
	)
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "kubernetes_build_info",
		Help: "A constant 1, labelled with what was built.",
	}, []string{"git_version", "git_commit", "go_version", "platform"})
	info.WithLabelValues(b.Version, b.Commit, b.GoVersion, b.Platform).Set(1)
	r.reg.MustRegister(info)
	return r
}

// Handler serves the set in the formats of Prometheus. A part that cannot be collected is left out.
func (r *Registry) Handler() http.Handler {
	return promhttp.HandlerFor(r.reg, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError,
		// A scrape reads /proc and the cgroups; more than a few at a time are an accident or an attack.
		MaxRequestsInFlight: 8,
		Timeout:             30 * time.Second,
	})
}

// Counter makes a counter; the function adds to it.
func (r *Registry) Counter(name, help string, labels ...string) func(add float64, values ...string) {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	r.reg.MustRegister(c)
	if len(labels) == 0 {
		return func(add float64, _ ...string) { c.WithLabelValues().Add(add) }
	}
	return func(add float64, values ...string) { c.WithLabelValues(values...).Add(add) }
}

// Gauge makes a gauge; the function sets it.
func (r *Registry) Gauge(name, help string, labels ...string) func(value float64, values ...string) {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	r.reg.MustRegister(g)
	return func(value float64, values ...string) { g.WithLabelValues(values...).Set(value) }
}

// Histogram makes a histogram of seconds; the function adds a duration to it.
func (r *Registry) Histogram(name, help string, buckets []float64, labels ...string) func(d time.Duration, values ...string) {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	r.reg.MustRegister(h)
	return func(d time.Duration, values ...string) { h.WithLabelValues(values...).Observe(d.Seconds()) }
}
