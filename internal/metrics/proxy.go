package metrics

import "time"

// syncBuckets run from 0.1 ms, where the netlink back ends are, to 6.5 s.
var syncBuckets = exponential(0.0001, 2, 17)

// Proxy counts what the service proxy does.
type Proxy struct {
	sync, full, partial   func(time.Duration, ...string)
	last, queued          func(float64, ...string)
	failures, restores    func(float64, ...string)
	services, endpoints   func(float64, ...string)
	pendingSvc, pendingEp func(float64, ...string)
	programmed, reconcile func(time.Duration, ...string)
	deleted               func(float64, ...string)
}

// Proxy makes kube-proxy's metrics.
func (r *Registry) Proxy() *Proxy {
	const family = "ip_family"
	return &Proxy{
		sync:       r.Histogram("kubeproxy_sync_proxy_rules_duration_seconds", "One round of programming the kernel.", syncBuckets, family),
		full:       r.Histogram("kubeproxy_sync_full_proxy_rules_duration_seconds", "One round that wrote everything.", syncBuckets, family),
		partial:    r.Histogram("kubeproxy_sync_partial_proxy_rules_duration_seconds", "One round that wrote what had changed.", syncBuckets, family),
		last:       r.Gauge("kubeproxy_sync_proxy_rules_last_timestamp_seconds", "When the kernel was last programmed.", family),
		queued:     r.Gauge("kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds", "When a round was last asked for.", family),
		failures:   r.Counter("kubeproxy_sync_proxy_rules_nftables_sync_failures_total", "Rounds that failed.", family),
		restores:   r.Counter("kubeproxy_sync_proxy_rules_iptables_restore_failures_total", "Rounds that failed in mode iptables.", family),
		services:   r.Counter("kubeproxy_sync_proxy_rules_service_changes_total", "Changes of Services."),
		endpoints:  r.Counter("kubeproxy_sync_proxy_rules_endpoint_changes_total", "Changes of EndpointSlices."),
		pendingSvc: r.Gauge("kubeproxy_sync_proxy_rules_service_changes_pending", "Changes of Services that wait for a round."),
		pendingEp:  r.Gauge("kubeproxy_sync_proxy_rules_endpoint_changes_pending", "Changes of EndpointSlices that wait for a round."),
		programmed: r.Histogram("kubeproxy_network_programming_duration_seconds", "From the change of an endpoint to the kernel holding it.", programmingBuckets, family),
		reconcile:  r.Histogram("kubeproxy_conntrack_reconciler_sync_duration_seconds", "One search for stale conntrack entries.", syncBuckets, family),
		deleted:    r.Counter("kubeproxy_conntrack_reconciler_deleted_entries_total", "Stale conntrack entries that were deleted.", family),
	}
}

// programmingBuckets are finer than upstream's at the short end, where we want to be.
var programmingBuckets = append(exponential(0.001, 2, 8), .25, .5, 1, 2, 4, 8, 15, 30, 60, 120, 300)

// followedBuckets are so narrow that a quantile taken from them is right to a twentieth up to 1 ms, where
// it is to be; from there to 10 s they are wider.
var followedBuckets = append(exponential(10e-6, 1.1, 49), exponential(0.0015, 1.5, 22)...)

// Followed makes nodelet_proxy_follow_duration_seconds.
func (r *Registry) Followed() func(took time.Duration) {
	add := r.Histogram("nodelet_proxy_follow_duration_seconds", "From the arrival of an EndpointSlice's event at this node to the kernel holding it.", followedBuckets)
	return func(took time.Duration) { add(took) }
}

// Round is one round of programming the kernel.
type Round struct {
	// Family is IPv4 or IPv6, Mode the back end.
	Family, Mode string
	// Full: everything was written, not only what had changed.
	Full bool
	Took time.Duration
	Err  error
}

// Synced notes a round that has just ended.
func (m *Proxy) Synced(r Round, now time.Time) {
	m.sync(r.Took, r.Family)
	if r.Full {
		m.full(r.Took, r.Family)
	} else {
		m.partial(r.Took, r.Family)
	}
	if r.Err != nil {
		if r.Mode == "iptables" {
			m.restores(1, r.Family)
		} else {
			m.failures(1, r.Family)
		}
		return
	}
	m.last(float64(now.UnixNano())/1e9, r.Family)
}

// Queued notes that a round was asked for.
func (m *Proxy) Queued(family string, now time.Time) {
	m.queued(float64(now.UnixNano())/1e9, family)
}

// Changed notes changes that the next round takes up.
func (m *Proxy) Changed(services, endpoints int) {
	m.services(float64(services))
	m.endpoints(float64(endpoints))
	m.pendingSvc(float64(services))
	m.pendingEp(float64(endpoints))
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
