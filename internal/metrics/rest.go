package metrics

import "time"

// REST counts requests to the API server.
type REST struct {
	total    func(float64, ...string)
	duration func(time.Duration, ...string)
}

// REST makes rest_client_*.
func (r *Registry) REST() *REST {
	return &REST{
		total:    r.Counter("rest_client_requests_total", "Requests to the API server.", "code", "method", "host"),
		duration: r.Histogram("rest_client_request_duration_seconds", "How long requests to the API server took.", exponential(0.005, 2, 13), "verb", "host"),
	}
}

// Result is told of one answer; code is the HTTP status, or "<error>" when there was none.
func (m *REST) Result(code, method, host string) { m.total(1, code, method, host) }

// Latency is told how long one request took.
func (m *REST) Latency(verb, host string, took time.Duration) { m.duration(took, verb, host) }
