package metrics

import (
	"slices"
	"time"
)

// syncBuckets are kube-proxy's, 1 ms to 16 s, and finer ones where the netlink back ends are.
var syncBuckets = exponential(0.000125, 2, 18)

// Proxy counts what the service proxy does.
type Proxy struct {
	sync, full, partial func(time.Duration, ...string)
	last, queued        func(float64, ...string)
	failures, restores  func(float64, ...string)
	partialRestores     func(float64, ...string)
	services, endpoints func(float64, ...string)
	programmed          func(time.Duration, ...string)
	reconcile           func(time.Duration, ...string)
	deleted             func(float64, ...string)
}

// Proxy makes kube-proxy's metrics (v1.36, pkg/proxy/metrics).
func (r *Registry) Proxy() *Proxy {
	const family = "ip_family"
	return &Proxy{
		sync:       r.Histogram("kubeproxy_sync_proxy_rules_duration_seconds", "One round of programming the kernel, both families at once.", syncBuckets, family),
		full:       r.Histogram("kubeproxy_sync_full_proxy_rules_duration_seconds", "One round that looked at everything.", syncBuckets, family),
		partial:    r.Histogram("kubeproxy_sync_partial_proxy_rules_duration_seconds", "One round that wrote what had changed.", syncBuckets, family),
		last:       r.Gauge("kubeproxy_sync_proxy_rules_last_timestamp_seconds", "When the kernel was last seen to hold what it should.", family),
		queued:     r.Gauge("kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds", "When a round last began.", family),
		failures:   r.Counter("kubeproxy_sync_proxy_rules_nftables_sync_failures_total", "Rounds that failed, in any mode but iptables.", family),
		restores:   r.Counter("kubeproxy_sync_proxy_rules_iptables_restore_failures_total", "Rounds that failed in mode iptables.", family),
		services:   r.Counter("kubeproxy_sync_proxy_rules_service_changes_total", "Changes of Services that were programmed."),
		endpoints:  r.Counter("kubeproxy_sync_proxy_rules_endpoint_changes_total", "Changes of EndpointSlices that were programmed."),
		programmed: r.Histogram("kubeproxy_network_programming_duration_seconds", "From the change of an endpoint to the kernel holding it.", programmingBuckets, family),
		reconcile:  r.Histogram("kubeproxy_conntrack_reconciler_sync_duration_seconds", "One search for stale conntrack entries.", syncBuckets, family),
		deleted:    r.Counter("kubeproxy_conntrack_reconciler_deleted_entries_total", "Stale conntrack entries that were deleted.", family),

		partialRestores: r.Counter("kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total",
			"Rounds in mode iptables that failed to write what had changed; the next one writes everything.", family),
	}
}

// programmingBuckets are kube-proxy's, a quarter of a second to five minutes, and finer ones where we want to be.
var programmingBuckets = slices.Concat(exponential(0.001, 2, 8), linear(0.25, 0.25, 2), linear(1, 1, 59), linear(60, 5, 12), linear(120, 30, 7))

func linear(from, step float64, n int) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = from + float64(i)*step
	}
	return out
}

// followedBuckets are so narrow that a quantile taken from them is right to a twentieth up to 1 ms, where
// it is to be; from there to 10 s they are wider.
var followedBuckets = append(exponential(10e-6, 1.1, 49), exponential(0.0015, 1.5, 22)...)

// Followed makes nodelet_proxy_follow_duration_seconds.
func (r *Registry) Followed() func(took time.Duration) {
	add := r.Histogram("nodelet_proxy_follow_duration_seconds", "From the arrival of an EndpointSlice's event at this node to the kernel holding it.", followedBuckets)
	return func(took time.Duration) { add(took) }
}

// Round is one round of programming the kernel, which is of both families at once.
type Round struct {
	// Mode is the back end; IPv6: it programs that family too.
	Mode string
	IPv6 bool
	// Full: everything was looked at. Idle: nothing was found to do.
	Full, Idle bool
	Took       time.Duration
	Err        error
}

func (r *Round) families() []string {
	if r.IPv6 {
		return []string{"IPv4", "IPv6"}
	}
	return []string{"IPv4"}
}

// Synced notes a round that has just ended. How long it took and how it failed is told once, as IPv4's:
// the sums over the families are true.
func (m *Proxy) Synced(r Round, now time.Time) {
	if !r.Idle {
		m.sync(r.Took, "IPv4")
		if r.Full {
			m.full(r.Took, "IPv4")
		} else {
			m.partial(r.Took, "IPv4")
		}
	}
	switch {
	case r.Err == nil:
		for _, family := range r.families() {
			m.last(unix(now), family)
		}
	case r.Mode != "iptables":
		m.failures(1, "IPv4")
	default:
		m.restores(1, "IPv4")
		if !r.Full {
			m.partialRestores(1, "IPv4")
		}
	}
}

func unix(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }

// Begun notes that a round begins.
func (m *Proxy) Begun(ipv6 bool, now time.Time) {
	for _, family := range (&Round{IPv6: ipv6}).families() {
		m.queued(unix(now), family)
	}
}

// Rules are those of mode iptables in one table: how many there are, and were written by the last round.
type Rules struct {
	Table, Family  string
	Total, Written int
}

// Rules makes the gauges of rules; in other modes read gives none.
func (r *Registry) Rules(read func() []Rules) {
	labels := []string{"table", "ip_family"}
	total := &Desc{Name: "kubeproxy_sync_proxy_rules_iptables_total", Help: "Rules of Services in mode iptables.", Labels: labels}
	written := &Desc{Name: "kubeproxy_sync_proxy_rules_iptables_last", Help: "Rules of Services that the last round in mode iptables wrote.", Labels: labels}
	r.OnScrape(func(e *Emitter) {
		for _, t := range read() {
			e.Value(total, float64(t.Total), t.Table, t.Family)
			e.Value(written, float64(t.Written), t.Table, t.Family)
		}
	}, total, written)
}

// Changed notes changes that have been programmed.
func (m *Proxy) Changed(services, endpoints int) {
	m.services(float64(services))
	m.endpoints(float64(endpoints))
}

// Pending makes the gauges of changes of Services and EndpointSlices that are not in the kernel yet.
func (r *Registry) Pending(read func() (services, endpoints int)) {
	services := &Desc{Name: "kubeproxy_sync_proxy_rules_service_changes_pending", Help: "Changes of Services that wait for a round."}
	endpoints := &Desc{Name: "kubeproxy_sync_proxy_rules_endpoint_changes_pending", Help: "Changes of EndpointSlices that wait for a round."}
	r.OnScrape(func(e *Emitter) {
		s, n := read()
		e.Value(services, float64(s))
		e.Value(endpoints, float64(n))
	}, services, endpoints)
}

// RulePackets makes the counters of packets that constant rules of mode iptables have met; in other
// modes ok is false, and there are none.
func (r *Registry) RulePackets(read func() (invalid, localhost uint64, ok bool)) {
	dropped := &Desc{
		Name: "kubeproxy_iptables_ct_state_invalid_dropped_packets_total", Counter: true,
		Help: "Packets that were dropped because connection tracking found them invalid (mode iptables).",
	}
	accepted := &Desc{
		Name: "kubeproxy_iptables_localhost_nodeports_accepted_packets_total", Counter: true,
		Help: "Packets that began a connection to a node port on a loopback address (mode iptables).",
	}
	r.OnScrape(func(e *Emitter) {
		if invalid, localhost, ok := read(); ok {
			e.Value(dropped, float64(invalid))
			e.Value(accepted, float64(localhost))
		}
	}, dropped, accepted)
}

// Programmed notes how long an endpoint's change took to reach the kernel.
func (m *Proxy) Programmed(family string, took time.Duration) { m.programmed(took, family) }

// Reconciled notes a search for stale conntrack entries.
func (m *Proxy) Reconciled(family string, deleted int, took time.Duration) {
	m.reconcile(took, family)
	m.deleted(float64(deleted), family)
}

// NoLocalEndpoints makes kubeproxy_sync_proxy_rules_no_local_endpoints_total; read gives the numbers of
// Services by traffic policy ("internal", "external") and family.
func (r *Registry) NoLocalEndpoints(read func() map[[2]string]int) {
	d := &Desc{
		Name: "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
		Help: "Services with traffic policy Local and no endpoint on this node.", Labels: []string{"traffic_policy", "ip_family"},
	}
	r.OnScrape(func(e *Emitter) {
		for labels, n := range read() {
			e.Value(d, float64(n), labels[0], labels[1])
		}
	}, d)
}

// Health counts answers of the health ports; name is healthz or livez.
func (r *Registry) Health(name string) func(code string) {
	add := r.Counter("kubeproxy_proxy_"+name+"_total", "Answers of the proxy's "+name+" by status code.", "code")
	return func(code string) { add(1, code) }
}

// Applied makes nodelet_programmed_revision: the revision of the store that the kernel objects of
// each feature stand for.
func (r *Registry) Applied(read func() map[string]uint64) {
	d := &Desc{Name: "nodelet_programmed_revision", Help: "Revision of the snapshot that the kernel holds, by feature.", Labels: []string{"feature"}}
	r.OnScrape(func(e *Emitter) {
		for feature, rev := range read() {
			e.Value(d, float64(rev), feature)
		}
	}, d)
}
