package metrics

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Desc names a metric that is read when it is scraped.
type Desc struct {
	Name, Help string
	// Counter: the value only grows; otherwise it is a gauge. Of no meaning for histograms.
	Counter bool
	Labels  []string
}

// Histogram is a distribution that somebody else keeps.
type Histogram struct {
	// Buckets maps an upper bound to the number of observations up to it.
	Buckets map[float64]uint64
	Count   uint64
	Sum     float64
}

// OnScrape has read called for each scrape, for facts that are kept elsewhere anyway. A read that
// does not find something simply emits less.
func (r *Registry) OnScrape(read func(*Emitter), descs ...*Desc) {
	s := &scrape{read: read, descs: make(map[*Desc]*prometheus.Desc, len(descs))}
	for _, d := range descs {
		s.descs[d] = prometheus.NewDesc(d.Name, d.Help, d.Labels, nil)
	}
	r.reg.MustRegister(s)
}

type scrape struct {
	read  func(*Emitter)
	descs map[*Desc]*prometheus.Desc
}

// Describe implements prometheus.Collector.
func (s *scrape) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range s.descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (s *scrape) Collect(ch chan<- prometheus.Metric) {
	s.read(&Emitter{descs: s.descs, ch: ch})
}

// Emitter takes the samples of one scrape.
type Emitter struct {
	descs map[*Desc]*prometheus.Desc
	ch    chan<- prometheus.Metric
}

// Value hands over one sample that is true now.
func (e *Emitter) Value(d *Desc, value float64, labels ...string) {
	e.ValueAt(d, value, time.Time{}, labels...)
}

// ValueAt hands over one sample with the time it was taken at.
func (e *Emitter) ValueAt(d *Desc, value float64, at time.Time, labels ...string) {
	desc, kind := e.desc(d), prometheus.GaugeValue
	if d.Counter {
		kind = prometheus.CounterValue
	}
	m, err := prometheus.NewConstMetric(desc, kind, value, labels...)
	e.send(desc, m, err, at)
}

// Histogram hands over a distribution.
func (e *Emitter) Histogram(d *Desc, h Histogram, labels ...string) {
	desc := e.desc(d)
	m, err := prometheus.NewConstHistogram(desc, h.Count, h.Sum, h.Buckets, labels...)
	e.send(desc, m, err, time.Time{})
}

func (e *Emitter) desc(d *Desc) *prometheus.Desc {
	if desc, ok := e.descs[d]; ok {
		return desc
	}
	return prometheus.NewInvalidDesc(fmt.Errorf("metric %s was emitted but not declared", d.Name))
}

func (e *Emitter) send(desc *prometheus.Desc, m prometheus.Metric, err error, at time.Time) {
	switch {
	case err != nil:
		m = prometheus.NewInvalidMetric(desc, err)
	case !at.IsZero():
		m = prometheus.NewMetricWithTimestamp(at, m)
	}
	e.ch <- m
}
