package metrics

// CertificateTTL registers how many seconds a certificate of the node is valid for, by upstream's name;
// kind is "client" or "server". Infinite means that there is none.
func (r *Registry) CertificateTTL(kind string, read func() float64) {
	d := &Desc{
		Name: "kubelet_certificate_manager_" + kind + "_ttl_seconds",
		Help: "Seconds until the node's " + kind + " certificate ends.",
	}
	r.OnScrape(func(e *Emitter) { e.Value(d, read()) }, d)
}
