package metrics

// ServiceTraffic is what went through one port of a Service.
type ServiceTraffic struct {
	Namespace, Service, Port, Protocol string
	Connections, Packets, Bytes        uint64
}

// Services makes counters of what goes through each Service port. At most limit
// ports have some, the first of what read gives; the others are only counted.
func (r *Registry) Services(limit int, read func() []ServiceTraffic) {
	labels := []string{"namespace", "service", "port", "protocol"}
	connections := &Desc{Name: "nodelet_service_connections_total", Help: "Connections (UDP: flows) that were sent to an endpoint of a Service.", Counter: true, Labels: labels}
	packets := &Desc{Name: "nodelet_service_packets_total", Help: "Packets that were translated for a Service, in both directions.", Counter: true, Labels: labels}
	bytes := &Desc{Name: "nodelet_service_bytes_total", Help: "Bytes of these packets.", Counter: true, Labels: labels}
	omitted := &Desc{Name: "nodelet_service_metrics_omitted", Help: "Service ports with traffic that have no metrics of their own, because of --proxy-service-metrics."}
	r.OnScrape(func(e *Emitter) {
		all := read()
		for _, t := range all[:min(limit, len(all))] {
			of := []string{t.Namespace, t.Service, t.Port, t.Protocol}
			e.Value(connections, float64(t.Connections), of...)
			e.Value(packets, float64(t.Packets), of...)
			e.Value(bytes, float64(t.Bytes), of...)
		}
		e.Value(omitted, float64(max(len(all)-limit, 0)))
	}, connections, packets, bytes, omitted)
}

// XDP makes a counter of the packets that were forwarded by XDP.
func (r *Registry) XDP(read func() uint64) {
	packets := &Desc{Name: "nodelet_proxy_xdp_packets_total", Help: "Packets of known connections that were forwarded by XDP (mode ebpf).", Counter: true}
	r.OnScrape(func(e *Emitter) { e.Value(packets, float64(read())) }, packets)
}
