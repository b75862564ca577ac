package node

import (
	"fmt"
	"net/http"
	"net/netip"

	"nodelet/dns"
	"nodelet/dns/corefile"
	"nodelet/dns/zone"
	"nodelet/internal/model"
	"nodelet/internal/store"
)

// DNSConfig is what the daemon is told about DNS by flags of their own.
type DNSConfig struct {
	// Listen are addresses beside ClusterDNS, such as the link-local one of a node-local cache.
	Listen []netip.Addr
	// Upstreams answer outside names in place of the host's resolvers; see corefile.ParseUpstream.
	Upstreams []string
	// Corefile is namespace/name of the ConfigMap with CoreDNS's configuration; empty: none is read.
	Corefile string
	// PodRecords is disabled, insecure or verified.
	PodRecords string
}

// DefaultDNSConfig is what holds without flags.
func DefaultDNSConfig() DNSConfig {
	return DNSConfig{PodRecords: zone.PodsInsecure.String(), Corefile: "kube-system/coredns"}
}

func (n *Node) buildDNS() error {
	c, err := n.cfg.dns()
	if err != nil {
		return err
	}
	f, err := dns.New(c, dns.Deps{Store: n.store, Log: n.deps.Log})
	if err != nil {
		return err
	}
	n.dns = f
	n.watchStatus("cluster DNS", f.Health)
	return nil
}

func (c *Config) dns() (dns.Config, error) {
	d := dns.DefaultConfig(c.ClusterDomain, append(c.ClusterDNS[:len(c.ClusterDNS):len(c.ClusterDNS)], c.DNS.Listen...)...)
	d.ResolvConf = c.ResolvConf
	if c.DNS.Corefile != "" {
		d.Corefile = model.ParseKey(c.DNS.Corefile)
	}
	if c.Has(Proxy) {
		d.RoutedBy = store.Proxy
	}
	for _, text := range c.DNS.Upstreams {
		u, err := corefile.ParseUpstream(text)
		if err != nil {
			return d, fmt.Errorf("--upstream: %w", err)
		}
		d.Upstreams = append(d.Upstreams, u)
	}
	var err error
	if d.Pods, err = zone.ParsePodMode(c.DNS.PodRecords); err != nil {
		return d, fmt.Errorf("--dns-pod-records: %w", err)
	}
	return d, nil
}

// alwaysRead are the configuration objects that are watched whatever the pods refer to.
func (c *Config) alwaysRead() []model.ConfigKey {
	if !c.Has(DNS) || c.DNS.Corefile == "" {
		return nil
	}
	return []model.ConfigKey{{Kind: model.ConfigMap, Key: model.ParseKey(c.DNS.Corefile)}}
}

// answerReady says whether cluster names are answered, as CoreDNS's ready plugin does.
func (n *Node) answerReady(w http.ResponseWriter, _ *http.Request) {
	if n.dns != nil {
		if err := n.dns.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
	}
	_, _ = fmt.Fprint(w, "OK")
}
