package node

import (
	"fmt"
	"net/http"
	"net/netip"

	"nodelet/dns"
	"nodelet/dns/zone"
	"nodelet/internal/store"
)

// DNSConfig is what the daemon is told about DNS by flags of their own.
type DNSConfig struct {
	// Listen are addresses beside ClusterDNS, such as the link-local one of a node-local cache.
	Listen []netip.Addr
	// PodRecords is disabled, insecure or verified.
	PodRecords string
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
	if c.Has(Proxy) {
		d.RoutedBy = store.Proxy
	}
	var err error
	d.Pods, err = zone.ParsePodMode(c.DNS.PodRecords)
	return d, err
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
