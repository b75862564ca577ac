package metrics

// DNSStats is what a DNS server has counted itself, without locks on its query path.
type DNSStats struct {
	// Server is the listen address as "dns://10.96.0.10:53".
	Server    string
	Requests  []DNSRequests
	Responses []DNSResponses
	// Durations by zone.
	Durations map[string]Histogram
	// Cache by kind: success and denial.
	CacheEntries, CacheHits map[string]uint64
	CacheMisses             uint64
	// Prefetched were asked for again in time, Stale given after their time.
	Prefetched, Stale uint64
	// Rejected were beyond the bounds of queries that wait for resolvers.
	Rejected uint64
	// Programmed is from the cause of a change of endpoints to its answer.
	Programmed Histogram
	// SetupErrors by type, as NodeLocal DNSCache names them.
	SetupErrors map[string]uint64
	Panics      uint64
	// Early counts zones that were used before the proxy had routed them.
	Early uint64
	// Kernel counts the answers of the kernel (--dns-xdp), which are among Requests and Responses.
	Kernel    uint64
	Upstreams []DNSUpstream
}

// DNSRequests counts queries.
type DNSRequests struct {
	// Proto is udp or tcp, Family 1 for IPv4 and 2 for IPv6, Type the query's type or "other".
	Zone, Proto, Family, Type string
	Count                     uint64
}

// DNSResponses counts answers by their code (NOERROR, NXDOMAIN...).
type DNSResponses struct {
	Zone, RCode string
	Count       uint64
}

// DNSUpstream is what was asked of one upstream resolver.
type DNSUpstream struct {
	To string
	// Durations by the code of the answer.
	Durations map[string]Histogram
	Failures  uint64
}

// DNS makes CoreDNS's metrics from what a server counts itself.
func (r *Registry) DNS(read func() DNSStats) {
	requests := &Desc{Name: "coredns_dns_requests_total", Help: "DNS queries.", Counter: true, Labels: []string{"server", "zone", "view", "proto", "family", "type"}}
	responses := &Desc{Name: "coredns_dns_responses_total", Help: "DNS answers.", Counter: true, Labels: []string{"server", "zone", "view", "rcode", "plugin"}}
	durations := &Desc{Name: "coredns_dns_request_duration_seconds", Help: "How long DNS queries took.", Labels: []string{"server", "zone", "view"}}
	entries := &Desc{Name: "coredns_cache_entries", Help: "Entries in the cache.", Labels: []string{"server", "type", "zones", "view"}}
	hits := &Desc{Name: "coredns_cache_hits_total", Help: "Answers from the cache.", Counter: true, Labels: []string{"server", "type", "zones", "view"}}
	misses := &Desc{Name: "coredns_cache_misses_total", Help: "Queries that the cache could not answer.", Counter: true, Labels: []string{"server", "zones", "view"}}
	lookups := &Desc{Name: "coredns_cache_requests_total", Help: "Queries that the cache was asked for.", Counter: true, Labels: []string{"server", "zones", "view"}}
	prefetched := &Desc{Name: "coredns_cache_prefetch_total", Help: "Answers that were asked for again before they ran out.", Counter: true, Labels: []string{"server", "zones", "view"}}
	stale := &Desc{Name: "coredns_cache_served_stale_total", Help: "Answers given after they had run out, as no resolver answered.", Counter: true, Labels: []string{"server", "zones", "view"}}
	rejected := &Desc{Name: "coredns_forward_max_concurrent_rejects_total", Help: "Queries refused because too many wait for upstream resolvers.", Counter: true}
	programmed := &Desc{Name: "coredns_kubernetes_dns_programming_duration_seconds", Help: "From the cause of a change of endpoints to its answer.", Labels: []string{"service_kind"}}
	setup := &Desc{Name: "coredns_nodecache_setup_errors_total", Help: "Failures to have addresses and rules on the host.", Counter: true, Labels: []string{"errortype"}}
	panics := &Desc{Name: "coredns_panics_total", Help: "Queries that ended in a bug.", Counter: true}
	early := &Desc{Name: "nodelet_dns_early_zones_total", Help: "Zones answered from before the service proxy had programmed their revision.", Counter: true}
	kernel := &Desc{Name: "nodelet_dns_kernel_answers_total", Help: "Answers that the kernel gave by XDP; coredns_dns_requests_total counts them as well.", Counter: true}
	forwarded := &Desc{Name: "coredns_proxy_request_duration_seconds", Help: "How long upstream resolvers took.", Labels: []string{"proxy_name", "to", "rcode"}}
	failures := &Desc{Name: "coredns_proxy_healthcheck_failures_total", Help: "Health checks of upstream resolvers that had no answer.", Counter: true, Labels: []string{"proxy_name", "to"}}
	r.OnScrape(func(e *Emitter) {
		s := read()
		for _, c := range s.Requests {
			e.Value(requests, float64(c.Count), s.Server, c.Zone, "", c.Proto, c.Family, c.Type)
		}
		for _, c := range s.Responses {
			e.Value(responses, float64(c.Count), s.Server, c.Zone, "", c.RCode, "")
		}
		for zone, h := range s.Durations {
			e.Histogram(durations, h, s.Server, zone, "")
		}
		for kind, n := range s.CacheEntries {
			e.Value(entries, float64(n), s.Server, kind, ".", "")
		}
		for kind, n := range s.CacheHits {
			e.Value(hits, float64(n), s.Server, kind, ".", "")
		}
		e.Value(misses, float64(s.CacheMisses), s.Server, ".", "")
		e.Value(lookups, float64(s.CacheMisses+s.CacheHits["success"]+s.CacheHits["denial"]), s.Server, ".", "")
		e.Value(prefetched, float64(s.Prefetched), s.Server, ".", "")
		e.Value(stale, float64(s.Stale), s.Server, ".", "")
		e.Value(rejected, float64(s.Rejected))
		e.Histogram(programmed, s.Programmed, "headless_with_selector")
		for what, n := range s.SetupErrors {
			e.Value(setup, float64(n), what)
		}
		e.Value(panics, float64(s.Panics))
		e.Value(early, float64(s.Early))
		e.Value(kernel, float64(s.Kernel))
		for _, u := range s.Upstreams {
			for rcode, h := range u.Durations {
				e.Histogram(forwarded, h, "forward", u.To, rcode)
			}
			e.Value(failures, float64(u.Failures), "forward", u.To)
		}
	}, requests, responses, durations, entries, hits, misses, lookups, prefetched, stale, rejected, programmed, setup, panics, early, kernel, forwarded, failures)
}
