package node

import (
	"context"
	"time"

	"nodelet/dns"
	"nodelet/internal/metrics"
	"nodelet/internal/model"
	"nodelet/internal/store"
	"nodelet/proxy"
)

// proxyMetrics joins the proxy's facts with kube-proxy's names.
func (n *Node) proxyMetrics() proxy.Metrics {
	m := n.metrics.Proxy()
	answered := map[string]func(string){"healthz": n.metrics.Health("healthz"), "livez": n.metrics.Health("livez")}
	repaired := n.metrics.Counter("nodelet_proxy_repairs_total", "How often rules that others had changed were put right.")
	refused := n.metrics.Gauge("nodelet_proxy_refused_ports", "Ports of Services that found no room in the kernel's maps (mode ebpf) and are refused.")
	draining := n.metrics.Gauge("nodelet_proxy_draining_connections", "Connections that go on by the proxy mode that was switched away from.")
	return proxy.Metrics{
		Begun: func() { m.Begun(n.proxy.Choice().IPv6, time.Now()) },
		Synced: func(r proxy.Round) {
			m.Synced(metrics.Round{Mode: r.Choice.Mode, IPv6: r.Choice.IPv6, Full: r.Full, Idle: r.Idle, Took: r.Took, Err: r.Err}, time.Now())
		},
		Changed:    m.Changed,
		Programmed: func(ipv6 bool, took time.Duration) { m.Programmed(familyName(ipv6), took) },
		Followed:   n.metrics.Followed(),
		Answered:   func(name, code string) { answered[name](code) },
		Repaired:   func() { repaired(1) },
		Draining:   func(connections int) { draining(float64(connections)) },
		Refused:    func(ports int) { refused(float64(ports)) },
		Reconciled: func(ipv6 bool, deleted int, took time.Duration) { m.Reconciled(familyName(ipv6), deleted, took) },
	}
}

func familyName(ipv6 bool) string {
	if ipv6 {
		return "IPv6"
	}
	return "IPv4"
}

// noLocalEndpoints counts Services with traffic policy Local that have no endpoint here.
func (n *Node) noLocalEndpoints() map[[2]string]int {
	out := map[[2]string]int{}
	for _, ipv6 := range []bool{false, true} {
		internal, external := n.proxy.State().WithoutLocal(ipv6)
		out[[2]string{"internal", familyName(ipv6)}] = internal
		out[[2]string{"external", familyName(ipv6)}] = external
	}
	return out
}

// dnsMetrics gives the DNS server's counters in CoreDNS's names.
func dnsMetrics(s dns.Stats) metrics.DNSStats {
	out := metrics.DNSStats{
		Server: s.Server, CacheEntries: s.CacheEntries, CacheHits: s.CacheHits, CacheMisses: s.CacheMisses, Panics: s.Panics,
		Prefetched: s.Prefetched, Stale: s.Stale, Rejected: s.Rejected, Programmed: metrics.Histogram(s.Programmed), SetupErrors: s.SetupErrors,
		Early: s.Early, Kernel: s.Kernel,
		Durations: map[string]metrics.Histogram{},
	}
	for _, c := range s.Requests {
		out.Requests = append(out.Requests, metrics.DNSRequests(c))
	}
	for _, c := range s.Responses {
		out.Responses = append(out.Responses, metrics.DNSResponses(c))
	}
	for zone, d := range s.Durations {
		out.Durations[zone] = metrics.Histogram(d)
	}
	for _, u := range s.Upstreams {
		to := metrics.DNSUpstream{To: u.To, Failures: u.ProbeFailures, Durations: map[string]metrics.Histogram{}}
		for rcode, d := range u.Durations {
			to.Durations[rcode] = metrics.Histogram(d)
		}
		out.Upstreams = append(out.Upstreams, to)
	}
	return out
}

// scrapePatience bounds what a scrape may wait for the lock of iptables; Prometheus waits 10 s by default.
const scrapePatience = 3 * time.Second

// registerMetrics makes those that are read from the store at each scrape.
func (n *Node) registerMetrics() {
	n.metrics.Applied(func() map[string]uint64 {
		out := map[string]uint64{}
		for f, r := range n.store.Snapshot().Applied {
			out[string(f)] = uint64(r)
		}
		return out
	})
	if n.proxy != nil {
		n.metrics.NoLocalEndpoints(n.noLocalEndpoints)
		n.metrics.Pending(func() (services, endpoints int) { return n.proxy.Pending(n.store.Snapshot()) })
		n.metrics.Rules(func() (out []metrics.Rules) {
			for _, r := range n.proxy.Rules() {
				out = append(out, metrics.Rules{Table: r.Table, Family: familyName(r.IPv6), Total: r.Total, Written: r.Written})
			}
			return out
		})
		n.metrics.RulePackets(func() (invalid, localhost uint64, ok bool) {
			ctx, cancel := context.WithTimeout(context.Background(), scrapePatience)
			defer cancel()
			packets, ok := n.proxy.RulePackets(ctx)
			return packets.Invalid, packets.Localhost, ok
		})
		if len(n.cfg.ProxyOptions.EBPF.XDP) > 0 {
			n.metrics.XDP(func() uint64 { _, packets := n.proxy.Shortcuts(); return packets })
		}
		if limit := n.cfg.ProxyOptions.ServiceMetrics; limit > 0 {
			n.metrics.Services(limit, n.serviceTraffic)
		}
	}
	if n.dns != nil {
		n.metrics.DNS(func() metrics.DNSStats { return dnsMetrics(n.dns.Stats()) })
	}
	if n.cfg.Has(Agent) {
		n.metrics.NodeName(n.cfg.NodeName)
		n.metrics.Counts(func() metrics.Counts { return podCounts(n.store.Snapshot()) })
	}
}

// self is this node in the store; ok is false until it is registered.
func self(s *store.Snapshot, name string) (node *model.Node, ok bool) {
	return s.Nodes.Get(model.Key{Name: name})
}
